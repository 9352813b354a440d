"use strict";
// Sorts tables, opens what is folded for print, and shows single rows. Text from outside becomes
// text nodes only.

const make = (tag, attributes, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  node.append(...children);
  return node;
};

// ---------------------------------------------------------------- tables

const quantity = (text) => {
  const found = /^<?\s*([-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?)(?![\p{L}\d_-])/iu.exec(text.replace(/−/g, "-"));
  return found ? Number(found[1].replace(/,/g, "")) : NaN;
};

const sortTable = (table, headers, column) => {
  const down = headers[column].getAttribute("aria-sort") === "ascending";
  const body = table.tBodies[0];
  const entries = [...body.rows].map((row) => {
    const cell = row.cells[column];
    const text = (cell.dataset.value ?? cell.textContent).trim();
    return { row, text, value: quantity(text), none: ["", "–", "n/a"].includes(text) };
  });
  const numeric = entries.every((entry) => entry.none || !Number.isNaN(entry.value));
  entries.sort((a, b) => {
    if (a.none || b.none) return a.none - b.none; // what has no value comes last either way
    const order = numeric ? a.value - b.value : a.text.localeCompare(b.text, "en", { numeric: true });
    return down ? -order : order;
  });
  body.append(...entries.map((entry) => entry.row));
  for (const header of headers) header.removeAttribute("aria-sort");
  headers[column].setAttribute("aria-sort", down ? "descending" : "ascending");
};

const makeSortable = (table) => {
  if (!table.tHead || table.tBodies[0].rows.length < 2) return;
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    const button = make("button", { type: "button", class: "sort" }, ...header.childNodes);
    button.addEventListener("click", () => sortTable(table, headers, column));
    header.append(button);
  });
};

document.querySelectorAll("table.sortable").forEach(makeSortable);

// ---------------------------------------------------------------- print

let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details.print:not([open])")];
  for (const details of opened) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of opened) details.open = false;
});

// ---------------------------------------------------------------- text

const HIDDEN = /[\p{C}\p{Z}]/u; // what Python would not print, but for the space
const HAN = /\p{Script=Han}/u;

const mark = (character) => {
  if (character === " ") return null;
  if (character === "\t") return "⇥";
  if (character === "\n" || character === "\r") return "⏎";
  if (!HIDDEN.test(character)) return null;
  return `‹U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}›`;
};

const visible = (text) => Array.from(text, (c) => mark(c) ?? c).join("");

// The same with the marks set apart, and lines where the text has them.
const inked = (text) => {
  const nodes = [];
  let plain = "";
  const flush = () => {
    if (plain) nodes.push(plain);
    plain = "";
  };
  for (const character of text) {
    const shown = mark(character);
    if (shown === null) {
      plain += character;
      continue;
    }
    flush();
    nodes.push(make("span", { class: "control" }, shown));
    if (character === "\n") plain = "\n";
    if (character === "\t") plain = " ";
  }
  flush();
  return nodes;
};

const inChinese = (text) => (HAN.test(text) ? { lang: "zh-Hant" } : {});

const figure = (value) => {
  if (value === null) return "n/a";
  if (value >= 100000) return value.toExponential(3);
  const digits = value > 0 ? 4 - Math.floor(Math.log10(value)) : 2;
  return value.toFixed(Math.max(0, Math.min(2, digits)));
};

const percent = (ratio) => {
  if (ratio >= 11) return `× ${figure(ratio)}`;
  return `${ratio >= 1 ? "+" : "−"}${Math.abs(100 * (ratio - 1)).toFixed(1)} %`;
};

// ---------------------------------------------------------------- prompts

// As harness.prompts.rendering does it: placeholders are replaced in one pass, and by text only.
const fill = (template, values) => template.replace(/\{(instruction|output|number)\}/g, (_, name) => values[name]);

const exchangesOf = (row) => {
  const texts = (row.history || []).filter(([role]) => role !== "system").map(([, text]) => text);
  const pairs = [];
  for (let i = 0; i + 1 < texts.length; i += 2) pairs.push([texts[i], texts[i + 1]]);
  return pairs;
};

const turnsOf = (prompt, row, demonstrations) => {
  const exchanges = [];
  for (const shown of demonstrations) {
    for (const pair of [...exchangesOf(shown), [shown.instruction, shown.output]]) exchanges.push(["demonstration", shown.id, pair]);
  }
  for (const pair of exchangesOf(row)) exchanges.push(["history", row.id, pair]);
  const system = (row.history || []).filter(([role]) => role === "system").map(([, text]) => text).join("");
  let first = [system, prompt.preamble].filter(Boolean).join("\n\n");
  if (!prompt.chat) first = system ? `${system}\n\n${prompt.preamble}` : prompt.preamble;
  const turns = first ? [{ role: "system", kind: "system", text: first }] : [];
  exchanges.forEach(([kind, id, [user, assistant]], i) => {
    const text = fill(prompt.demonstration, { instruction: user, output: assistant, number: String(i + 1) });
    turns.push({ role: "user", kind, text, id });
    if (prompt.chat) turns.push({ role: "assistant", kind, text: assistant, id });
  });
  const text = fill(prompt.query, { instruction: row.instruction, output: "", number: String(exchanges.length + 1) });
  turns.push({ role: "user", kind: "query", text, id: row.id });
  return turns;
};

// What a chat template puts around the turns; null where it was not kept.
const inSkeleton = (turns, skeletons) => {
  const name = turns.map((turn) => turn.role).join(",");
  if (!Object.hasOwn(skeletons, name)) return null;
  let rest = skeletons[name];
  const found = [];
  for (const [i, turn] of turns.entries()) {
    const slot = `ADAPTBENCH${String(i).padStart(3, "0")}SLOT`;
    const at = rest.indexOf(slot);
    if (at < 0) return null;
    found.push({ kind: "template", text: rest.slice(0, at) }, turn);
    rest = rest.slice(at + slot.length);
  }
  found.push({ kind: "template", text: rest });
  return found;
};

const KINDS = { system: "preamble", demonstration: "demonstration", history: "earlier turn", query: "question", template: "chat template" };

const promptOf = (data, cell, index) => {
  const row = data.rows[index];
  const prompt = data.prompts.get(cell.prompt);
  const lists = cell.demonstrations;
  const ids = (lists.length === 1 ? lists[0] : lists[index]) || [];
  const lost = ids.filter((id) => !data.shown.has(id));
  if (!prompt || lost.length) {
    return make("p", { class: "fine" }, prompt ? `Not kept: the demonstrations ${visible(lost.join(", "))}.` : "The prompt was not kept.");
  }
  const turns = turnsOf(prompt, row, ids.map((id) => data.shown.get(id)));
  const framed = prompt.chat ? inSkeleton(turns, cell.skeletons) : turns;
  const box = make("div", { class: "prompt" });
  for (const piece of (framed || turns).filter((some) => some.text)) {
    const what = [KINDS[piece.kind]];
    if (piece.kind === "demonstration") what.push(visible(piece.id));
    if (prompt.chat && piece.role) what.push(piece.role);
    box.append(make("div", { class: `piece ${piece.kind}` },
      make("span", { class: "kind" }, what.join(" · ")),
      make("div", { class: "text", ...inChinese(piece.text) }, ...inked(piece.text))));
  }
  if (prompt.chat && !framed) box.append(make("p", { class: "fine" }, "What the chat template puts around the turns was not kept."));
  return box;
};

// ---------------------------------------------------------------- surprise

const LIMITS = [0.5, 1, 2, 3, 4.5, 6, 8]; // nats at which the next colour begins, as in the legend
const shadeOf = (nats) => `s${LIMITS.filter((limit) => nats >= limit).length}`;

const coloured = (data, text, surprisal) => {
  const characters = Array.from(text);
  if (surprisal.length !== characters.length + 1) return null;
  const box = make("div", { class: "text answer", ...inChinese(text) });
  const nats = (i) => data.alphabet.indexOf(surprisal[i]) * data.step;
  const said = (i) => `${surprisal[i] === data.alphabet.at(-1) ? "≥ " : ""}${nats(i).toFixed(1)} nats`;
  let i = 0;
  while (i < characters.length) {
    let end = i + 1;
    while (end < characters.length && surprisal[end] === surprisal[i]) end += 1;
    box.append(make("span", { class: shadeOf(nats(i)), title: said(i) }, ...inked(characters.slice(i, end).join(""))));
    i = end;
  }
  box.append(make("span", { class: `end ${shadeOf(nats(i))}`, title: `end of the answer: ${said(i)}` }, "⟨end⟩"));
  return box;
};

const underCell = (data, cell, index) => {
  const tokens = cell.tokens[index];
  const words = `${cell.id}: perplexity ${figure(cell.perplexity[index])}, ${tokens} token${tokens === 1 ? "" : "s"} scored`;
  const output = data.rows[index].output;
  const box = make("div", { class: "under" }, make("p", { class: "label" }, visible(words)));
  const answer = coloured(data, output, cell.surprisal[index]);
  box.append(answer || make("div", { class: "text answer", ...inChinese(output) }, ...inked(output)));
  if (!answer) box.append(make("p", { class: "fine" }, "Not known by character: the tokenizer does not say where its tokens stand."));
  return box;
};

// ---------------------------------------------------------------- every strategy, one row

const groupsOf = (data) => {
  const groups = new Map();
  for (const cell of data.cells) {
    const names = ["label", "model", "quantization", "dtype", "prompt"].map((name) => cell[name]);
    const key = JSON.stringify(names);
    if (!groups.has(key)) groups.set(key, { names: [cell.label, ...data.varying.map((name) => cell[name])], cells: [] });
    groups.get(key).cells.push(cell);
  }
  return [...groups.values()];
};

const strategies = (data, index) => {
  const seeds = [...new Set(data.cells.map((cell) => cell.seed).filter((seed) => seed !== null))].sort((a, b) => a - b);
  const head = ["strategy", ...data.varying, "mean", ...seeds.map((seed) => `seed ${seed}`)];
  const words = 1 + data.varying.length;
  const header = (name, i) => make("th", i < words ? { scope: "col" } : { scope: "col", class: "n" }, name);
  const body = make("tbody");
  const number = (value) => make("td", { class: "n", "data-value": value ?? "" }, value === undefined ? "–" : figure(value));
  for (const group of groupsOf(data)) {
    const values = group.cells.map((cell) => cell.perplexity[index]);
    const mean = values.includes(null) ? null : values.reduce((a, b) => a + b, 0) / values.length;
    body.append(make("tr", {},
      make("th", { scope: "row" }, visible(group.names[0])),
      ...group.names.slice(1).map((name) => make("td", {}, visible(name))),
      number(mean),
      ...seeds.map((seed) => number(group.cells.find((cell) => cell.seed === seed)?.perplexity[index]))));
  }
  const label = `Perplexity of ${visible(data.rows[index].id)} under every strategy`;
  const table = make("table", {}, make("caption", { class: "unseen" }, label),
    make("thead", {}, make("tr", {}, ...head.map(header))), body);
  makeSortable(table);
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, table);
};

// ---------------------------------------------------------------- the list

const SAID = {
  better: "Improved: perplexity lower than in the other cell. Sorted by the ratio of the two.",
  worse: "Worsened: perplexity higher than in the other cell. Sorted by the ratio of the two.",
  high: "A row’s share is its part of the sum that the mean divides.",
  low: "A row’s share is its part of the sum that the mean divides.",
  effect: "Sorted by the difference of the two perplexities, up or down: the first rows move the mean most.",
  file: "In the order of the test file.",
};
const FIRST = 20, STEP = 50;

const explore = (data) => {
  const at = (id) => document.getElementById(id);
  const [search, cellBox, otherBox, orderBox] = ["search", "cell", "other", "order"].map(at);
  const haystack = data.rows.map((row) => `${row.id}\n${row.instruction}\n${row.output}`.toLowerCase());
  const open = new Set();
  let limit = FIRST;

  data.cells.forEach((cell, i) => {
    for (const box of [cellBox, otherBox]) box.append(make("option", { value: i }, visible(cell.id)));
  });
  cellBox.value = data.first;
  otherBox.value = data.other;

  const sum = (cell) => cell.perplexity.reduce((a, b) => a + (b ?? 0), 0);

  const number = (name, text, more) => make("span", { class: `number ${more || ""}` }, make("small", {}, name), " ", text);

  const summary = (index, cell, other, total) => {
    const row = data.rows[index];
    const ours = cell.perplexity[index], theirs = other.perplexity[index];
    const ratio = ours === null || theirs === null ? null : ours / theirs;
    const numbers = make("span", { class: "numbers" }, number("perplexity", figure(ours), "strong"));
    if (cell !== other) {
      numbers.append(number("compared with", figure(theirs)),
        number("change", ratio === null ? "n/a" : percent(ratio), ratio < 1 && ratio !== null ? "better" : ratio > 1 ? "worse" : ""));
    }
    numbers.append(number("share of the mean", ours === null || !total ? "n/a" : `${(100 * ours / total).toFixed(1)} %`));
    return make("summary", {},
      make("span", { class: "what" },
        make("span", { class: "id" }, visible(row.id)), " ",
        make("span", { class: "clip", ...inChinese(row.instruction) }, visible(row.instruction))),
      numbers);
  };

  const inside = (index, cell, other) => {
    const row = data.rows[index];
    const box = make("div", { class: "inside" });
    const tags = (row.tags || []).map(([name, value]) => `${visible(name)}: ${visible(value)}`).join(", ");
    box.append(make("h3", {}, "Instruction"),
      make("div", { class: "text", ...inChinese(row.instruction) }, ...inked(row.instruction)));
    if (tags) box.append(make("p", { class: "fine" }, tags));
    box.append(make("h3", {}, "Reference answer, by surprise"), underCell(data, cell, index));
    if (cell !== other) box.append(underCell(data, other, index));
    box.append(make("h3", {}, "Perplexity under every strategy"), strategies(data, index),
      make("h3", {}, "The prompt as it was sent"),
      make("p", { class: "label" }, visible(cell.id)), promptOf(data, cell, index));
    return box;
  };

  const draw = (focus) => {
    const cell = data.cells[cellBox.value], other = data.cells[otherBox.value];
    const total = sum(cell);
    const needle = search.value.trim().toLowerCase();
    const value = (list, i) => list[i] ?? Infinity; // what is not finite is the worst
    const ratio = (i) => {
      const [ours, theirs] = [value(cell.perplexity, i), value(other.perplexity, i)];
      return ours === theirs ? 1 : ours / theirs;
    };
    const effect = (i) => {
      const [ours, theirs] = [value(cell.perplexity, i), value(other.perplexity, i)];
      return ours === theirs ? 0 : Math.abs(ours - theirs);
    };
    const keys = {
      better: ratio,
      worse: (i) => -ratio(i),
      high: (i) => -value(cell.perplexity, i),
      low: (i) => value(cell.perplexity, i),
      effect: (i) => -effect(i),
      file: (i) => i,
    };
    const key = keys[orderBox.value];
    const hits = [...data.rows.keys()].filter((i) => haystack[i].includes(needle)).map((i) => [key(i), i]);
    hits.sort(([a, i], [b, j]) => (a < b ? -1 : a > b ? 1 : i - j));
    const better = hits.filter(([, i]) => ratio(i) < 1).length;
    const worse = hits.filter(([, i]) => ratio(i) > 1).length;
    const compared = cell === other ? "" : `; ${better} improved, ${worse} worsened`;
    at("found").textContent = `${hits.length} of ${data.rows.length} rows${compared}`;
    at("order-said").textContent = SAID[orderBox.value];
    const list = hits.slice(0, limit).map(([, i]) => {
      const details = make("details", { class: "row" }, summary(i, cell, other, total));
      const fillIn = () => details.childElementCount < 2 && details.append(inside(i, cell, other));
      details.addEventListener("toggle", () => {
        if (details.open) fillIn();
        open[details.open ? "add" : "delete"](i);
      });
      if (open.has(i)) {
        fillIn();
        details.open = true;
      }
      return details;
    });
    at("list").replaceChildren(...list);
    const left = hits.length - list.length;
    at("more").hidden = left <= 0;
    at("more").textContent = left > STEP ? `Show ${STEP} more of ${left}` : `Show ${left} more`;
    if (focus !== undefined) list[focus]?.firstElementChild.focus();
  };

  const anew = () => {
    limit = FIRST;
    draw();
  };
  search.addEventListener("input", anew);
  for (const box of [cellBox, otherBox, orderBox]) box.addEventListener("change", anew);
  at("more").addEventListener("click", () => {
    const before = limit;
    limit += STEP;
    draw(before);
  });
  at("explorer").hidden = false;
  draw();
};

const data = JSON.parse(document.getElementById("data").textContent);
data.shown = new Map(Object.entries(data.shown));
data.prompts = new Map(Object.entries(data.prompts));
if (data.cells.length) explore(data);
