// Drawings: the map of a row's slots, series over timesteps, histograms.

function expand(runs) {
  const slots = [];
  for (const [length, kind, prompt, target, segment] of runs) {
    for (let at = 0; at < length; at++) slots.push({ kind, prompt, target, segment });
  }
  return slots;
}

function strip(row) {
  // One line for the whole row, in the list.
  const total = sum(row.runs.map((run) => run[0]));
  let at = 0;
  const parts = row.runs.map(([length, kind]) => {
    const part = svg("rect", {
      class: `k k${kind}`, x: at, y: 0, width: length, height: 1,
    });
    at += length;
    return part;
  });
  return svg("svg", {
    class: "strip", viewBox: `0 0 ${total} 1`, preserveAspectRatio: "none", width: "100%",
    "aria-hidden": "true",
  }, parts);
}

// The slots in lines: full height where a slot is a target, half where it is none; a
// band above inside a prompt, and a number where a segment begins.
function slotMap(row, width) {
  const total = row.tokens.length;
  const perLine = Math.min(total, width < 560 ? 64 : 128);
  const cell = width / perLine;
  const high = 30;
  const lines = Math.ceil(total / perLine);
  const root = svg("svg", {
    class: "map", width, height: lines * high, role: "img",
    "aria-label": `map of ${total} slots`,
  });
  let at = 0, last = 0;
  for (const [length, kind, prompt, target, segment] of row.runs) {
    const end = at + length;
    if (segment && segment !== last) {
      root.append(svg("text", {
        x: (at % perLine) * cell, y: Math.floor(at / perLine) * high + 10,
      }, String(segment)));
      last = segment;
    }
    for (let start = at; start < end;) {
      const line = Math.floor(start / perLine);
      const stop = Math.min(end, (line + 1) * perLine);
      const x = (start - line * perLine) * cell, y = line * high;
      const gap = stop - start > 1 || cell > 3 ? .5 : 0;
      const wide = Math.max((stop - start) * cell - gap, .5);
      root.append(svg("rect", {
        class: `k k${kind}`, x, y: y + (target || !kind ? 14 : 20), width: wide,
        height: target ? 14 : kind ? 8 : 14, opacity: kind ? null : .5,
      }));
      if (prompt) {
        root.append(svg("rect", { class: "k kp", x, y: y + 11, width: wide, height: 2 }));
      }
      start = stop;
    }
    at = end;
  }
  const read = el("div", { class: "read small", "aria-live": "polite" },
    "Point at a slot to read it.");
  const slots = expand(row.runs);
  const point = (event) => {
    const box = root.getBoundingClientRect();
    const line = Math.floor((event.clientY - box.top) / high);
    const place = line * perLine + Math.floor((event.clientX - box.left) / cell);
    const slot = slots[place];
    if (!slot) return;
    const said = [`slot ${place}: ${KINDS[slot.kind]}`];
    if (slot.kind) {
      if (slot.kind !== 2) said.push(`token ${row.tokens[place]}`);
      said.push(slot.target ? "target" : "not a target", `segment ${slot.segment}`);
      if (slot.prompt) said.push("in the prompt");
    }
    read.textContent = said.join(", ");
  };
  root.addEventListener("pointermove", point);
  root.addEventListener("pointerdown", point);
  return el("figure", { class: "plot" }, root, el("figcaption", null, read));
}

const hue = (at) => `hsl(${(205 + at * 137.5) % 360} 62% 52%)`;
const LEFT = 56, RIGHT = 8;

// A number that has room beside an axis.
const tick = (number) => (Number.isInteger(number) ? figure(number)
  : figure(Number(number.toPrecision(3))));

function ticks(low, high, whole) {
  const middle = (low + high) / 2;
  if (low === high) return [low];
  return whole && !Number.isInteger(middle) ? [low, high] : [low, middle, high];
}

function labels(steps, promptSteps, slotWidth) {
  // Numbers of timesteps that have room; the first of prompt and body always.
  const every = Math.max(1, Math.ceil(30 / slotWidth));
  const shown = [];
  for (let at = 0; at < steps.length; at++) {
    const from = at < promptSteps ? 0 : promptSteps;
    const before = at < promptSteps && promptSteps - at < every && at;
    if ((at - from) % every === 0 && !before) shown.push(at);
  }
  return shown;
}

function readValues(series, segment, at) {
  const values = series.values[at];
  const where = `step ${segment.steps[at]}${at < segment.prompt_steps ? " (prompt)" : ""}`;
  const state = ["not a target", "partly target", "target"][series.targets[at]];
  const told = values.length === 1 ? figure(values[0])
    : values.map((value, part) => `${part}: ${figure(value)}`).join("  ");
  return `${where}, ${state}:  ${told}`;
}

// Lines over timesteps, the prompt's shaded; a strip below says where targets are.
function linePlot(series, segment, width) {
  const number = segment.steps.length, top = 8, foot = 30;
  const inner = (width - LEFT - RIGHT) / number;
  const discrete = series.kind === "discrete";
  const all = series.values.flat();
  const low = Math.min(...all), high = Math.max(...all);
  const tall = low === high ? 36 : discrete ? 84 : 120;
  const x = (at) => LEFT + (at + .5) * inner;
  const y = (value) => top + (high === low ? .5 : (high - value) / (high - low)) * tall;
  const root = svg("svg", {
    width, height: top + tall + foot, role: "img",
    "aria-label": `${series.key || "value"} over ${number} timesteps`,
  });
  if (segment.prompt_steps) {
    root.append(svg("rect", {
      class: "shade", x: LEFT, y: 0, width: segment.prompt_steps * inner,
      height: top + tall + 8,
    }));
  }
  for (const value of ticks(low, high, discrete)) {
    root.append(
      svg("line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
      svg("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, tick(value)));
  }
  const size = series.values[0].length;
  for (let part = 0; part < size; part++) {
    const points = series.values.map((values, at) => [x(at), y(values[part])]);
    const color = size === 1 ? null : hue(part);
    const look = `stroke k${discrete ? (series.role === "actions" ? 6 : 3)
      : series.role === "actions" ? 7 : 4}`;
    // A prompt and a body are of two moments: no line joins them.
    for (const [from, to] of [[0, segment.prompt_steps], [segment.prompt_steps, number]]) {
      const some = points.slice(from, to).flatMap(([px, py]) => (discrete
        ? [[px - inner / 2, py], [px + inner / 2, py]] : [[px, py]]));
      if (some.length) {
        root.append(svg("polyline", {
          class: look, points: some.map((point) => point.join()).join(" "),
          style: color ? { stroke: color } : null, opacity: discrete ? .5 : .9,
        }));
      }
    }
    if (number <= 80) {
      for (const [px, py] of points) {
        root.append(svg("circle", {
          class: look, cx: px, cy: py, r: discrete ? 3 : 2,
          style: color ? { stroke: color } : null,
        }));
      }
    }
  }
  series.targets.forEach((state, at) => {
    if (state) {
      root.append(svg("rect", {
        class: "k ka", x: LEFT + at * inner + .5, y: top + tall + 5,
        width: Math.max(inner - 1, .5), height: 3, opacity: state === 2 ? 1 : .45,
      }));
    }
  });
  for (const at of labels(segment.steps, segment.prompt_steps, inner)) {
    root.append(svg("text", {
      x: x(at), y: top + tall + 24, "text-anchor": "middle",
      class: at < segment.prompt_steps ? "promptword" : null,
    }, String(segment.steps[at])));
  }
  const cursor = svg("line", { class: "cursor", y1: 0, y2: top + tall, x1: -9, x2: -9 });
  root.append(cursor);
  return { root, at: (event) => {
    const box = root.getBoundingClientRect();
    const at = Math.floor((event.clientX - box.left - LEFT) / inner);
    const held = Math.max(0, Math.min(number - 1, at));
    cursor.setAttribute("x1", x(held));
    cursor.setAttribute("x2", x(held));
    return readValues(series, segment, held);
  } };
}

// Many numbers a timestep: a line each, as shades of its own range.
function heatPlot(series, segment) {
  const number = segment.steps.length, size = series.values[0].length;
  const canvas = el("canvas", {
    class: "heat", width: number, height: size, role: "img",
    "aria-label": `${series.key || "value"}: ${size} numbers over ${number} timesteps`,
    style: { height: `${Math.max(60, Math.min(200, size * 5))}px` },
  });
  const pen = canvas.getContext("2d");
  const tint = series.kind === "discrete" ? "--k3" : "--k4";
  pen.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(tint);
  const columns = Array.from({ length: size }, (_, part) =>
    series.values.map((values) => values[part]));
  columns.forEach((column, part) => {
    const low = Math.min(...column), high = Math.max(...column);
    column.forEach((value, at) => {
      pen.globalAlpha = high === low ? .12 : .12 + .88 * (value - low) / (high - low);
      pen.fillRect(at, part, 1, 1);
    });
  });
  return { root: canvas, at: (event) => {
    const box = canvas.getBoundingClientRect();
    const held = (offset, length, most) =>
      Math.max(0, Math.min(most - 1, Math.floor(offset / length * most)));
    const at = held(event.clientX - box.left, box.width, number);
    const part = held(event.clientY - box.top, box.height, size);
    const prompt = at < segment.prompt_steps ? " (prompt)" : "";
    return `step ${segment.steps[at]}${prompt}, number ${part}: `
      + figure(series.values[at][part]);
  } };
}

function seriesPlot(series, segment, width) {
  const size = series.values[0].length;
  if (!size) return null;
  const many = size > 12;
  const drawn = many ? heatPlot(series, segment) : linePlot(series, segment, width);
  const states = new Set(series.targets);
  const mask = states.size > 1 ? "targets where the strip below is filled"
    : ["no targets", "partly targets", "all targets"][series.targets[0]];
  const shape = series.shape.length ? `, ${series.shape.join("x")}` : "";
  const told = many
    ? `${size} numbers, a line each, shaded over its own range`
    : size > 1 ? Array.from({ length: size }, (_, part) => el("span", null,
      el("i", { class: "chip", style: { background: hue(part) } }), `${part}  `)) : null;
  const read = el("div", { class: "read mono" }, "\u00a0");
  const point = (event) => { read.textContent = drawn.at(event); };
  drawn.root.addEventListener("pointermove", point);
  drawn.root.addEventListener("pointerdown", point);
  const role = series.role === "actions" ? "action" : "observation";
  return el("figure", { class: "plot" },
    el("figcaption", null, el("strong", null, series.key || role),
      ` ${series.kind} ${role}${shape}, ${mask}. `, told),
    drawn.root, read);
}

// Bars of a histogram, with marks at values such as a threshold.
function histogramPlot(data, marks, look, width) {
  const known = marks.filter((mark) => mark.value !== null && mark.value !== undefined);
  const values = [data.low, data.high, ...known.map((mark) => mark.value)];
  let low = Math.min(...values), high = Math.max(...values);
  if (low === high) { low -= 1; high += 1; }
  // One bar alone is a bar, not a wall.
  const edge = (high - low) * (data.counts.length === 1 ? 2 : .06);
  low -= edge; high += edge;
  const tall = 84, lanes = known.length, top = 4 + 13 * lanes;
  const x = (value) => (value - low) / (high - low) * width;
  const most = Math.max(...data.counts);
  const root = svg("svg", {
    width, height: top + tall + 18, role: "img",
    "aria-label": `histogram from ${figure(data.least)} to ${figure(data.most)}`,
  });
  const bins = data.counts.length;
  data.counts.forEach((number, at) => {
    const from = data.low === data.high ? x(data.low) - 4
      : x(data.low + (data.high - data.low) * at / bins);
    const to = data.low === data.high ? from + 8
      : x(data.low + (data.high - data.low) * (at + 1) / bins);
    const height = number ? Math.max(1.5, number / most * tall) : 0;
    root.append(svg("rect", {
      class: `k ${look}`, x: from, y: top + tall - height,
      width: Math.max(1, to - from - 1), height,
    }, svg("title", null, plural(number, "episode"))));
  });
  root.append(svg("line", { class: "axis", x1: 0, x2: width, y1: top + tall, y2: top + tall }));
  known.forEach((mark, lane) => {
    const at = x(mark.value), right = at > width / 2;
    root.append(
      svg("line", { class: mark.look, x1: at, x2: at, y1: 2 + 13 * lane, y2: top + tall }),
      svg("text", {
        x: right ? at - 4 : at + 4, y: 12 + 13 * lane, "text-anchor": right ? "end" : "start",
      }, mark.name));
  });
  const { least, most: greatest } = data;
  const label = (value, anchor, text) => root.append(svg("text", {
    x: value, y: top + tall + 14, "text-anchor": anchor,
  }, text));
  if (least === greatest) label(x(least), "middle", tick(least));
  else if (x(greatest) - x(least) < 90) {
    const text = `${tick(least)} to ${tick(greatest)}`;
    const right = (x(least) + x(greatest)) / 2 > width / 2;
    label(right ? x(data.high) : x(data.low), right ? "end" : "start", text);
  } else {
    label(x(least), "start", tick(least));
    label(x(greatest), "end", tick(greatest));
  }
  return root;
}
