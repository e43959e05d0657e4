"use strict";
// Elements, numbers and words that the other parts share. Text enters the document as
// text nodes only, so that nothing of the data is ever parsed as HTML.
const MODEL = JSON.parse(document.getElementById("model").textContent);
const SVG = "http://www.w3.org/2000/svg";
const KINDS = MODEL.kinds.map((name) => name.replace("_", " "));

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(node.style, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) node.append(child);
  }
  return node;
}
const el = (tag, attributes, ...children) =>
  fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

const WHOLE = new Intl.NumberFormat("en-US");
const count = (number) => WHOLE.format(number);
const percent = (part, whole) =>
  whole ? `${(100 * part / whole).toFixed(1)} %` : "-";
const sum = (numbers) => numbers.reduce((total, each) => total + each, 0);
function figure(number) {
  if (number === null || number === undefined) return "unknown";
  if (Number.isInteger(number) && Math.abs(number) < 1e6) return String(number);
  const text = number.toPrecision(4);
  return text.includes("e") ? text : String(Number(text));
}
const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;
// A path or an id, which may hold characters of any direction.
const code = (text) => el("code", { class: "isolate" }, text);

function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined);
  return el("dl", { class: "facts small" }, shown.map(([name, value]) =>
    el("div", null, el("dt", null, name), el("dd", null, value))));
}

function stacked(parts, whole, marks = []) {
  const shown = parts.filter((part) => part.value > 0);
  const told = shown.map((part) => `${part.name} ${percent(part.value, whole)}`);
  const label = [...told, ...marks.map((mark) => mark.name)].join(", ");
  return el("div", { class: "bar", role: "img", "aria-label": label, title: label },
    shown.map((part) => el("i", {
      class: `fill ${part.look}`, style: { width: `${100 * part.value / whole}%` },
    })),
    marks.map((mark) => el("b", { style: { left: `calc(${100 * mark.value}% - 1px)` } })));
}

function legend(entries) {
  return el("div", { class: "legend" }, entries.map(([look, name]) =>
    el("span", null, el("i", { class: `fill ${look}` }), name)));
}

function table(heads, rows) {
  // A head that begins with # is of numbers.
  const look = (head) => (head.startsWith("#") ? "n" : null);
  return el("div", { class: "scroll" }, el("table", null,
    el("thead", null, el("tr", null, heads.map((head) =>
      el("th", { class: look(head), scope: "col" }, head.replace("#", ""))))),
    el("tbody", null, rows.map((cells) => el("tr", null, cells.map((cell, at) =>
      el("td", {
        class: look(heads[at]) || (at ? (heads[at] ? "keep" : "wide") : "name"),
      }, cell)))))));
}

// Draws when its place is first opened: pages of many tasks stay quick.
function folded(title, open, draw) {
  const body = el("div");
  const node = el("details", { open }, el("summary", null, title), body);
  const once = () => {
    if (node.open && !body.childNodes.length) body.append(...[draw()].flat());
  };
  node.addEventListener("toggle", once);
  once();
  return node;
}
