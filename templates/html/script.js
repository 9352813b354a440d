"use strict";
// Sorts tables, opens what is folded for print, and shows single rows. Text from outside becomes
// text nodes only.

const make = (tag, attributes, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  node.append(...children);
  return node;
};

const data = JSON.parse(document.getElementById("data").textContent);

// ---------------------------------------------------------------- words

// English, or what the page's data have for it, with values in the place of {name}.
// Between Chinese and Latin there is a space.
const between = (one, other) => (HAN.test(one) && /[A-Za-z0-9]/.test(other)) || (/[A-Za-z0-9]/.test(one) && HAN.test(other)) ? " " : "";
const filled = (words, values) => words.replace(/\{(\w+)\}/g, (all, name, at) => {
  const value = `${values[name] ?? all}`;
  if (!data.words) return value;
  return between(words[at - 1], value[0]) + value + between(value.at(-1), words[at + all.length]);
});
const formsOf = (words) => (data.words || {})[words];
const say = (words, values = {}) => filled(formsOf(words)?.[0] ?? words, values);
const sayNumber = (count, one, many, values = {}) => {
  const words = formsOf(one)?.at(count === 1 ? 0 : -1) ?? (count === 1 ? one : many);
  return filled(words, { count, ...values });
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
  const digits = value ? 4 - Math.floor(Math.log10(Math.abs(value))) : 2;
  return value.toFixed(Math.max(0, Math.min(2, digits)));
};

const signed = (value) => `${value >= 0 ? "+" : "−"}${figure(Math.abs(value))}`;

const percent = (ratio) => {
  if (ratio >= 11) return `× ${figure(ratio)}`;
  return `${ratio >= 1 ? "+" : "−"}${Math.abs(100 * (ratio - 1)).toFixed(1)} %`;
};

// ---------------------------------------------------------------- prompts

// The pieces come in order, put together where the prompts were made.
const promptOf = (data, cell, index) => {
  const box = make("div", { class: "prompt" });
  for (const [kind, label, text] of [...cell.shared, ...(cell.own[index] || [])]) {
    const words = data.strings[text];
    box.append(make("div", { class: `piece ${kind}` },
      make("span", { class: "kind" }, visible(data.strings[label])),
      make("div", { class: "text", ...inChinese(words) }, ...inked(words))));
  }
  const note = make("p", { class: "fine" }, visible(cell.note));
  if (!cell.own.length) return note;
  if (cell.note) box.append(note);
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
  const said = (i) => say("{size} nats", { size: `${surprisal[i] === data.alphabet.at(-1) ? "≥ " : ""}${nats(i).toFixed(1)}` });
  let i = 0;
  while (i < characters.length) {
    let end = i + 1;
    while (end < characters.length && surprisal[end] === surprisal[i]) end += 1;
    box.append(make("span", { class: shadeOf(nats(i)), title: said(i) }, ...inked(characters.slice(i, end).join(""))));
    i = end;
  }
  box.append(make("span", { class: `end ${shadeOf(nats(i))}`, title: say("end of the answer: {nats}", { nats: said(i) }) }, "⟨end⟩"));
  return box;
};

// ---------------------------------------------------------------- answers

const MOST = 4e6; // cells of the table of a comparison: two texts of 2,000 characters each

// What two texts have in common: pieces [kind, characters], kind 0 in both, 1 in the first only,
// −1 in the second only; the longest common subsequence.
const comparison = (ours, theirs) => {
  const [a, b] = [Array.from(ours), Array.from(theirs)];
  if (a.length * b.length > MOST) return null;
  const width = b.length + 1;
  const common = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      common[i * width + j] = a[i] === b[j]
        ? common[(i + 1) * width + j + 1] + 1
        : Math.max(common[(i + 1) * width + j], common[i * width + j + 1]);
    }
  }
  const pieces = [];
  const add = (kind, character) => {
    if (pieces.length && pieces.at(-1)[0] === kind) pieces.at(-1)[1] += character;
    else pieces.push([kind, character]);
  };
  let i = 0, j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      add(0, a[i]);
      i += 1;
      j += 1;
    } else if (j >= b.length || (i < a.length && common[(i + 1) * width + j] >= common[i * width + j + 1])) {
      add(1, a[i]);
      i += 1;
    } else {
      add(-1, b[j]);
      j += 1;
    }
  }
  return pieces;
};

const ENOUGH = 0.2; // of a text in common with the reference, or a comparison shows nothing

const againstReference = (text, reference) => {
  const box = make("div", { class: "text answer", ...inChinese(text + reference) });
  const pieces = reference ? comparison(text, reference) : null;
  const alike = (pieces || []).filter(([kind]) => kind === 0).reduce((sum, [, part]) => sum + part.length, 0);
  if (!pieces || alike < ENOUGH * reference.length) {
    box.append(...(text ? inked(text) : [make("span", { class: "control" }, say("(empty)"))]));
    return box;
  }
  for (const [kind, part] of pieces) {
    box.append(kind === 0 ? make("span", {}, ...inked(part)) : make(kind > 0 ? "ins" : "del", {}, ...inked(part)));
  }
  return box;
};

const written = (data, cell, index) => {
  const box = make("div", { class: "under" });
  const said = data.metrics
    .map((metric, i) => [metric.noun, cell.values[i][index]])
    .filter(([, value]) => value !== undefined)
    .map(([noun, value]) => `${noun} ${figure(value)}`);
  const faults = (cell.faults[index] || []).map((name) => say(name.replaceAll("_", " ")));
  box.append(make("p", { class: "label" }, visible(`${cell.id}${say(": ")}${said.join(say(", "))}`)));
  for (const [place, ended, tokens] of cell.answers[index]) {
    const size = sayNumber(tokens, "{count} token", "{count} tokens");
    const words = tokens ? say("{tokens}, {ended}", { tokens: size, ended }) : ended;
    box.append(againstReference(data.strings[place], data.rows[index].output), make("p", { class: "fine" }, visible(words)));
  }
  if (faults.length) box.append(make("p", { class: "fine worse" }, say("What went wrong: {faults}", { faults: faults.join(say(", ")) })));
  return box;
};

const metricOf = (data) => data.metrics[data.metric];
const valuesOf = (data, cell) => cell.values[data.metric];

const underCell = (data, cell, index) => {
  const tokens = cell.tokens[index];
  const value = figure(valuesOf(data, cell)[index]);
  const scored = sayNumber(tokens, "{count} token scored", "{count} tokens scored");
  const words = `${cell.id}${say(": ")}${say("{noun} {value}, {tokens}", { noun: metricOf(data).noun, value, tokens: scored })}`;
  const output = data.rows[index].output;
  const box = make("div", { class: "under" }, make("p", { class: "label" }, visible(words)));
  const answer = coloured(data, output, cell.surprisal[index]);
  box.append(answer || make("div", { class: "text answer", ...inChinese(output) }, ...inked(output)));
  if (!answer) box.append(make("p", { class: "fine" }, say("Not known by character: the tokenizer does not say where its tokens stand.")));
  return box;
};

// ---------------------------------------------------------------- every strategy, one row

const readBy = (data) => data.cells.filter((cell) => cell.observes === metricOf(data).observes);

const groupsOf = (data) => {
  const groups = new Map();
  for (const cell of readBy(data)) {
    const names = ["label", "model", "quantization", "dtype", "prompt", "decoding", "against"].map((name) => cell[name]);
    const key = JSON.stringify(names);
    if (!groups.has(key)) groups.set(key, { names: [cell.label, ...metricOf(data).varying.map((name) => cell[name])], cells: [] });
    groups.get(key).cells.push(cell);
  }
  return [...groups.values()];
};

const capital = (text) => (data.words ? text : text.charAt(0).toUpperCase() + text.slice(1));

const strategies = (data, index) => {
  const varying = metricOf(data).varying;
  const seeds = [...new Set(readBy(data).map((cell) => cell.seed).filter((seed) => seed !== null))].sort((a, b) => a - b);
  const head = [say("strategy"), ...varying.map((name) => say(name)), say("mean"), ...seeds.map((seed) => say("seed {seed}", { seed }))];
  const words = 1 + varying.length;
  const header = (name, i) => make("th", i < words ? { scope: "col" } : { scope: "col", class: "n" }, name);
  const body = make("tbody");
  const number = (value) => make("td", { class: "n", "data-value": value ?? "" }, value === undefined ? "–" : figure(value));
  for (const group of groupsOf(data)) {
    const values = group.cells.map((cell) => valuesOf(data, cell)[index]);
    const mean = values.includes(null) ? null : values.reduce((a, b) => a + b, 0) / values.length;
    body.append(make("tr", {},
      make("th", { scope: "row" }, visible(group.names[0])),
      ...group.names.slice(1).map((name) => make("td", {}, visible(name))),
      number(mean),
      ...seeds.map((seed) => number(group.cells.filter((cell) => cell.seed === seed).map((cell) => valuesOf(data, cell)[index])[0]))));
  }
  const label = say("{noun} of {row} under every strategy", { noun: capital(metricOf(data).noun), row: visible(data.rows[index].id) });
  const table = make("table", {}, make("caption", { class: "unseen" }, label),
    make("thead", {}, make("tr", {}, ...head.map(header))), body);
  makeSortable(table);
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, table);
};

// ---------------------------------------------------------------- the list

const saidOf = ({ noun, relative, sign }) => {
  const improved = sign > 0
    ? say("Improved: {noun} lower than in the other cell.", { noun })
    : say("Improved: {noun} higher than in the other cell.", { noun });
  const worsened = sign > 0
    ? say("Worsened: {noun} higher than in the other cell.", { noun })
    : say("Worsened: {noun} lower than in the other cell.", { noun });
  const by = relative ? say(" Sorted by the ratio of the two.") : say(" Sorted by the difference of the two.");
  return {
    better: improved + by,
    worse: worsened + by,
    high: say("A row’s share is its part of the sum that the mean divides."),
    low: say("A row’s share is its part of the sum that the mean divides."),
    effect: noun === "perplexity"
      ? say("Sorted by the difference of the two perplexities, up or down: the first rows move the mean most.")
      : say("Sorted by the difference of the two values, up or down: the first rows move the mean most."),
    file: say("In the order of the test file."),
  };
};
const FIRST = 20, STEP = 50;

const explore = (data) => {
  const at = (id) => document.getElementById(id);
  const [search, cellBox, otherBox, orderBox, metricBox, faultBox] = ["search", "cell", "other", "order", "metric", "fault"].map(at);
  const haystack = data.rows.map((row) => `${row.id}\n${row.instruction}\n${row.output}`.toLowerCase());
  const open = new Set();
  let limit = FIRST;

  // The cells that the metric reads, the two that it compares at first, and what its rows can have.
  const offer = () => {
    data.metric = metricBox ? Number(metricBox.value) : 0;
    const { observes, first, other } = metricOf(data);
    if (at("explorer").dataset.observes === observes) return;
    at("explorer").dataset.observes = observes;
    for (const box of [cellBox, otherBox]) box.replaceChildren();
    data.cells.forEach((cell, i) => {
      if (cell.observes !== observes) return;
      for (const box of [cellBox, otherBox]) box.append(make("option", { value: i }, visible(cell.id)));
    });
    cellBox.value = first;
    otherBox.value = other;
    const answers = observes !== "likelihood";
    at("surprise").hidden = answers;
    at("differences").hidden = !answers;
    if (!faultBox) return;
    faultBox.parentElement.hidden = observes !== "answer";
    faultBox.value = "";
  };
  if (metricBox) {
    data.metrics.forEach((metric, i) => {
      if (metric.first !== undefined) metricBox.append(make("option", { value: i }, visible(metric.title)));
    });
  }
  if (faultBox) {
    const names = [...new Set(data.cells.flatMap((cell) => cell.faults.flat()))].sort();
    for (const name of ["any", ...names]) faultBox.append(make("option", { value: name }, name === "any" ? say("any") : say(name.replaceAll("_", " "))));
  }

  const sum = (cell) => valuesOf(data, cell).reduce((a, b) => a + (b ?? 0), 0);

  const number = (name, text, more) => make("span", { class: `number ${more || ""}` }, make("small", {}, name), " ", text);

  const summary = (index, cell, other, total) => {
    const row = data.rows[index];
    const { noun, relative, sign } = metricOf(data);
    const ours = valuesOf(data, cell)[index], theirs = valuesOf(data, other)[index];
    const known = ours !== null && theirs !== null;
    const worse = known ? sign * (ours - theirs) : 0;
    const numbers = make("span", { class: "numbers" }, number(noun, figure(ours), "strong"));
    if (cell !== other) {
      const change = !known ? "n/a" : relative ? percent(ours / theirs) : signed(ours - theirs);
      numbers.append(number(say("compared with"), figure(theirs)),
        number(say("change"), change, worse < 0 ? "better" : worse > 0 ? "worse" : ""));
    }
    if (!metricOf(data).corpus) {
      numbers.append(number(say("share of the mean"), ours === null || !total ? "n/a" : `${(100 * ours / total).toFixed(1)} %`));
    }
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
    box.append(make("h3", {}, say("Instruction")),
      make("div", { class: "text", ...inChinese(row.instruction) }, ...inked(row.instruction)));
    if (tags) box.append(make("p", { class: "fine" }, tags));
    const answers = metricOf(data).observes !== "likelihood";
    const show = answers ? written : underCell;
    if (answers && row.output) {
      box.append(make("h3", {}, say("Reference")), make("div", { class: "text", ...inChinese(row.output) }, ...inked(row.output)));
    }
    box.append(make("h3", {}, answers ? say("Answers") : say("Reference answer, by surprise")));
    box.append(make("div", { class: answers ? "side" : "" }, ...[...new Set([cell, other])].map((one) => show(data, one, index))));
    box.append(make("h3", {}, say("{noun} under every strategy", { noun: capital(metricOf(data).noun) })), strategies(data, index),
      make("h3", {}, say("The prompt as it was sent")),
      make("p", { class: "label" }, visible(cell.id)), promptOf(data, cell, index));
    return box;
  };

  const draw = (focus) => {
    offer();
    const cell = data.cells[cellBox.value], other = data.cells[otherBox.value];
    const total = sum(cell);
    const needle = search.value.trim().toLowerCase();
    const { relative, sign } = metricOf(data);
    const [here, there] = [valuesOf(data, cell), valuesOf(data, other)];
    const value = (list, i) => list[i] ?? sign * Infinity; // what is not finite is the worst
    // How much worse a row is than in the other cell; 0 is the same.
    const worsening = (i) => {
      const [ours, theirs] = [value(here, i), value(there, i)];
      if (ours === theirs) return 0;
      return sign * (relative ? Math.log(ours / theirs) : ours - theirs);
    };
    const effect = (i) => {
      const [ours, theirs] = [value(here, i), value(there, i)];
      return ours === theirs ? 0 : Math.abs(ours - theirs);
    };
    const keys = {
      better: worsening,
      worse: (i) => -worsening(i),
      high: (i) => -value(here, i),
      low: (i) => value(here, i),
      effect: (i) => -effect(i),
      file: (i) => i,
    };
    const key = keys[orderBox.value];
    const said = (i) => [cell, other].flatMap((one) => one.answers[i] || []).map(([place]) => data.strings[place].toLowerCase());
    const wrong = faultBox ? faultBox.value : "";
    const has = (i) => !wrong || (cell.faults[i] || []).some((name) => wrong === "any" || name === wrong);
    const found = (i) => haystack[i].includes(needle) || said(i).some((text) => text.includes(needle));
    const hits = [...data.rows.keys()].filter((i) => has(i) && found(i)).map((i) => [key(i), i]);
    hits.sort(([a, i], [b, j]) => (a < b ? -1 : a > b ? 1 : i - j));
    const better = hits.filter(([, i]) => worsening(i) < 0).length;
    const worse = hits.filter(([, i]) => worsening(i) > 0).length;
    const compared = cell === other ? "" : say("; {better} improved, {worse} worsened", { better, worse });
    at("found").textContent = say("{n} of {rows} rows", { n: hits.length, rows: data.rows.length }) + compared;
    at("order-said").textContent = saidOf(metricOf(data))[orderBox.value];
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
    at("more").textContent = left > STEP ? say("Show {n} more of {left}", { n: STEP, left }) : say("Show {left} more", { left });
    if (focus !== undefined) list[focus]?.firstElementChild.focus();
  };

  const anew = () => {
    limit = FIRST;
    draw();
  };
  search.addEventListener("input", anew);
  for (const box of [cellBox, otherBox, orderBox, metricBox, faultBox].filter(Boolean)) box.addEventListener("change", anew);
  at("more").addEventListener("click", () => {
    const before = limit;
    limit += STEP;
    draw(before);
  });
  at("explorer").hidden = false;
  draw();
};

if (data.cells.length) explore(data);
