// Rows: a list to search, and the chosen one with its segments.

const words = (runs) => runs.map((run) => run[0]).join("");
const nameOf = (source) => MODEL.sources[source].name;
const stepsOf = ({ first_step: first, num_steps: number }) =>
  (number === 1 ? `step ${first}` : `steps ${first} to ${first + number - 1}`);

function rowTexts(row) {
  const texts = [];
  for (const segment of row.segments) {
    for (const part of segment.parts || []) if (part.runs) texts.push(words(part.runs));
    for (const item of segment.texts || []) {
      for (const span of item.spans) texts.push(words(span.runs));
    }
  }
  return texts;
}
const tasksOf = (row) => [...new Set(row.segments.map((segment) => segment.task))]
  .filter((task) => task !== undefined);
const titleOf = (row) => `${MODEL.datasets[row.dataset].label} · ${row.split}`
  + `${row.shard === null ? "" : ` ${row.shard}`}, row ${row.number}`;

// What a search looks through, once a row.
const HAYSTACKS = MODEL.rows.map((row) => [
  titleOf(row), row.path,
  ...row.segments.flatMap((segment) => [segment.task, segment.agent,
    ...[segment.episode, segment.prompt && segment.prompt.episode,
      ...(segment.documents || [])].filter(Number.isInteger).map(nameOf)]),
  ...rowTexts(row),
].filter(Boolean).join("\n").toLowerCase());

function item(row, at) {
  const names = tasksOf(row);
  const first = rowTexts(row).find((text) => text.trim());
  return el("a", { href: `#row-${at}`, "data-row": at },
    el("span", { class: "line" }, el("strong", null, titleOf(row)),
      row.segments.length > 1 ? el("span", { class: "soft small" },
        `${row.segments.length} segments`) : null),
    el("span", { class: "line small soft" }, el("span", { class: "text isolate" },
      names.length ? names.join(", ") : first || "no text")),
    names.length && first
      ? el("span", { class: "line small soft" }, el("span", { class: "text isolate" }, first))
      : null,
    strip(row));
}

function picture(image, name, most) {
  const scale = Math.max(1, Math.min(Math.floor(most / image.height), 8));
  const size = { width: `${image.width * scale}px` };
  if (image.type === "raw") {
    const canvas = el("canvas", { class: "picture", width: image.width,
      height: image.height, style: size, role: "img", "aria-label": name });
    const bytes = Uint8Array.from(atob(image.data), (mark) => mark.charCodeAt(0));
    const pixels = new ImageData(image.width, image.height);
    for (let from = 0, to = 0; from < bytes.length; from += 3, to += 4) {
      pixels.data.set([bytes[from], bytes[from + 1], bytes[from + 2], 255], to);
    }
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    return canvas;
  }
  return el("img", { class: "picture", alt: name, style: size, width: image.width,
    height: image.height, src: `data:${image.type};base64,${image.data}` });
}

const said = (runs) => el("p", { class: "said" }, runs.map(([text, state]) =>
  el("span", { class: `t${state}`,
    title: ["not a target", "partly target", "target"][state] }, text)));

function documentParts(parts) {
  const drawn = [];
  for (let at = 0; at < parts.length; at++) {
    const part = parts[at];
    if (!part.image) {
      drawn.push(el("div", null, said(part.runs), part.goes_on
        ? el("p", { class: "soft small" }, "… goes on in another row") : null));
      continue;
    }
    const shown = el("div", null, picture(part.image, `image ${at + 1}`, 128),
      el("div", { class: "soft small" }, `${part.image.width}x${part.image.height}`));
    const next = parts[at + 1];
    if (next && next.runs) {
      drawn.push(el("div", { class: "pair" }, shown, el("div", null, said(next.runs))));
      at++;
    } else drawn.push(shown);
  }
  return el("div", { class: "document" }, drawn);
}

const isPrompt = (segment, at) => at < segment.prompt_steps;

function film(item, segment) {
  return el("figure", { class: "plot" },
    el("figcaption", null, el("strong", null, item.key || "image"), " image observation"),
    el("div", { class: "film", tabindex: "0" }, item.frames.map((image, at) =>
      el("figure", { class: isPrompt(segment, at) ? "prompt" : null },
        picture(image, `${item.key} at step ${segment.steps[at]}`, 96),
        el("figcaption", null,
          `${isPrompt(segment, at) ? "prompt, " : ""}step ${segment.steps[at]}`)))));
}

function textItem(item, segment) {
  return el("figure", { class: "plot" },
    el("figcaption", null, el("strong", null, item.key || "text"), " text observation"),
    item.spans.map((span) => {
      // A span of equal texts may begin in the prompt and end in the body.
      const [first, last] = [segment.steps[span.first], segment.steps[span.last]];
      const mark = isPrompt(segment, span.first) ? "prompt, " : "";
      const to = isPrompt(segment, span.last) || !mark ? "" : "body, step ";
      const label = span.first === span.last ? `${mark}step ${first}`
        : `${mark}step ${first} to ${to}${last}`;
      return el("div", null, el("span", {
        class: `tag ${mark ? "prompt" : ""}`,
      }, label), said(span.runs));
    }));
}

function numbersTable(segment) {
  return el("div", { class: "scroll numbers" }, el("table", null,
    el("thead", null, el("tr", null, el("th", { scope: "col" }, "step"),
      segment.series.map((series) => el("th", { scope: "col" },
        series.role === "actions" ? `→ ${series.key}` : series.key)))),
    el("tbody", null, segment.steps.map((step, at) =>
      el("tr", { class: isPrompt(segment, at) ? "prompt" : null },
        el("td", null, isPrompt(segment, at) ? `${step} prompt` : String(step)),
        segment.series.map((series) => el("td", { class: "mono" },
          series.values[at].map(figure).join(" "))))))));
}

function sourceLink(source) {
  return el("a", { href: `#source-${source}` }, code(nameOf(source)));
}

function pathsOf(source) {
  const { paths } = MODEL.sources[source];
  if (!paths.length) return "a path the manifest does not name";
  return [paths.length > 1 || /[*?[]/.test(paths[0]) ? "matched by " : null,
    paths.map((path, at) => [at ? ", " : "", code(path)])];
}

function segmentCard(segment, at, row, width) {
  const head = el("h2", null, `Segment ${at + 1} `, el("span", { class: "soft small" },
    `slots ${segment.start} to ${segment.stop - 1}`));
  const id = `row-${MODEL.rows.indexOf(row)}-${at}`;
  if (segment.documents) {
    return el("section", { class: "card", id }, head,
      el("p", { class: "small" }, plural(segment.documents.length, "document"), ": ",
        segment.documents.map((one, place) => [place ? ", " : "", sourceLink(one)])),
      documentParts(segment.parts));
  }
  const { prompt } = segment;
  const success = { true: "success", false: "no success", null: "success not told" };
  return el("section", { class: "card", id }, head,
    el("p", null, sourceLink(segment.episode), ` ${stepsOf(segment)}`),
    el("p", { class: "small soft" }, "in ", pathsOf(segment.episode)),
    facts([["task", segment.task], ["agent", segment.agent],
      ["return", figure(segment.return)], ["", success[segment.success]]]),
    prompt ? el("div", { class: "promptbox small" },
      el("span", { class: "tag prompt" }, "prompt"), " ",
      prompt.mode === "tail" ? "the end of " : "a run of ", sourceLink(prompt.episode),
      `, ${stepsOf(prompt)}, ${plural(prompt.length, "slot")}`) : null,
    segment.images.map((item) => film(item, segment)),
    segment.series.filter((series) => series.role === "actions")
      .map((series) => seriesPlot(series, segment, width)),
    segment.texts.map((item) => textItem(item, segment)),
    segment.series.filter((series) => series.role === "observations")
      .map((series) => seriesPlot(series, segment, width)),
    folded("Numbers by timestep", false, () => numbersTable(segment)));
}

function kindsOf(row) {
  return [...new Set(row.runs.map((run) => run[1]))].sort();
}

function drawRow(at, shown, detail) {
  const row = MODEL.rows[at];
  const inner = el("div", { class: "inner" });
  detail.replaceChildren(inner);
  detail.scrollTop = 0;
  const width = Math.max(240, Math.min(inner.clientWidth, 1024) - 40);
  const targets = sum(row.runs.map((run) => run[0] * run[3]));
  const place = shown.indexOf(at);
  const step = (by, label, name) => el("button", {
    type: "button", "aria-label": name, disabled: !(place + by in shown) || place < 0,
    onclick: () => { location.hash = `row-${shown[place + by]}`; },
  }, label);
  inner.append(
    el("div", { class: "steer" },
      el("button", { class: "back", type: "button",
        onclick: () => { location.hash = "rows"; } }, "‹ Rows"),
      step(-1, "←", "previous row"), step(1, "→", "next row"),
      el("span", { class: "where soft small" },
        place < 0 ? "not in the search" : `${place + 1} of ${shown.length}`)),
    el("section", { class: "card" }, el("h1", null, titleOf(row)),
      el("p", { class: "small" }, code(row.path)),
      facts([["row", `${row.number} of ${count(row.num_rows)}`],
        ["bytes", count(row.bytes)], ["targets", `${targets} of ${row.tokens.length} slots`],
        ["segments", row.segments.length]]),
      legend([...kindsOf(row).map((kind) => [`k${kind}`, KINDS[kind]]),
        ...(row.runs.some((run) => run[2]) ? [["kp", "band above: in a prompt"]] : []),
        ["half", "half height: no target"]]),
      slotMap(row, width)),
    ...row.segments.map((segment, number) => segmentCard(segment, number, row, width)));
}
