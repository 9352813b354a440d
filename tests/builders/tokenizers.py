"""Tokenizers of one token a byte with the special tokens and chat templates of known families."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Chat:
    """A family's special tokens and its chat template, in words of our own."""

    template: str
    specials: tuple[str, ...]
    eos: str | None
    bos: str | None = None
    end: str = ""  # what its template writes after an answer


ASK = "{% if add_generation_prompt %}"
CHATML = Chat(  # no BOS; a system turn of its own where there is none
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    + ASK
    + "<|im_start|>assistant\n{% endif %}",
    ("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
    "<|endoftext|>",
    end="<|im_end|>",
)
GEMMA = Chat(  # trims what it is given; its end of turn is not the EOS
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' "
    "else m.role }}\n{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    + ASK
    + "<start_of_turn>model\n{% endif %}",
    ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
    "<eos>",
    "<bos>",
    "<end_of_turn>",
)
LLAMA3 = Chat(
    "{% for m in messages %}{% set text = '<|head|>' + m.role + '<|tail|>\n\n' + m.content | trim "
    "+ '<|eot_id|>' %}{% if loop.first %}{% set text = bos_token + text %}{% endif %}{{ text }}"
    "{% endfor %}" + ASK + "<|head|>assistant<|tail|>\n\n{% endif %}",
    ("<|bot|>", "<|eos|>", "<|head|>", "<|tail|>", "<|eot_id|>"),
    "<|eos|>",
    "<|bot|>",
    "<|eot_id|>",
)
MISTRAL = Chat(  # the system's words with the last question
    "{% set ns = namespace(system='') %}{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}{% set ns.system = m.content + '\n\n' %}"
    "{% elif m.role == 'user' %}[INST]{{ ns.system if loop.last else '' }}{{ m.content }}[/INST]"
    "{% else %}{{ m.content }}</s>{% endif %}{% endfor %}",
    ("<s>", "</s>", "[INST]", "[/INST]"),
    "</s>",
    "<s>",
    "</s>",
)
ZEPHYR = Chat(
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n{% endfor %}"
    + ASK
    + "<|assistant|>\n{% endif %}",
    ("<s>", "</s>"),
    "</s>",
    "<s>",
    "</s>",
)
THINKING = Chat(  # an empty thought stands before a finished answer, and none where one is asked
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}"
    "<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    + ASK
    + "<|im_start|>assistant\n{% endif %}",
    ("<|im_start|>", "<|im_end|>"),
    "<|im_end|>",
    end="<|im_end|>",
)
SPACED = Chat(  # a space stands before the end
    "{{ bos_token }}{% for m in messages %}{{ '[INST] ' + m.content + ' [/INST]' if m.role == "
    "'user' else ' ' + m.content + ' ' + eos_token }}{% endfor %}",
    ("<s>", "</s>", "[INST]", "[/INST]"),
    "</s>",
    "<s>",
    "</s>",
)
BARE = Chat(  # nothing but words
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    + ASK
    + "assistant: {% endif %}",
    ("<s>", "</s>"),
    "</s>",
    "<s>",
)
CHATS = {
    "chatml": CHATML,
    "gemma": GEMMA,
    "llama-3": LLAMA3,
    "mistral": MISTRAL,
    "zephyr": ZEPHYR,
    "thinking": THINKING,
    "spaced": SPACED,
    "bare": BARE,
}


def make_tokenizer(chat: Chat) -> Any:
    """A tokenizer of one token a byte, with the family's special tokens and template."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={s: i for i, s in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in chat.specials])
    named = {"bos_token": chat.bos, "eos_token": chat.eos}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, **{name: text for name, text in named.items() if text}
    )
    tokenizer.chat_template = chat.template
    return tokenizer
