// Small charts in SVG: axes, a band, lines, marks, and a cursor that reads values by mouse or keyboard.

import { h, number, s, shape, shortTime, time } from "./format.js";

/** Round steps for an axis: about `count` of them between two values. */
export function ticks(low, high, count) {
  const rough = (high - low) / Math.max(1, count) || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough) ?? rough;
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-9; at += step) found.push(+at.toFixed(10));
  return found;
}

function short(v) {
  return Math.abs(v) >= 10000 ? `${number(v / 1000, (v / 1000) % 1 ? 1 : 0)} k` : number(v, v % 1 ? 1 : 0);
}

const TIME_STEPS = [10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600].map((seconds) => seconds * 1000);

function timeTicks(start, end, count) {
  const step = TIME_STEPS.find((size) => size >= (end - start) / count) ?? 21600e3;
  const found = [];
  for (let at = Math.ceil(start / step) * step; at <= end; at += step) found.push(at);
  return found;
}

function path(points, x, y, gap) {
  let drawn = "";
  let before = null;
  for (const [t, v] of points) {
    if (v === null || v === undefined) before = null;
    else {
      const breaks = before === null || (gap && t - before > gap);
      drawn += `${breaks ? "M" : "L"}${x(t).toFixed(1)} ${y(v).toFixed(1)}`;
      before = t;
    }
  }
  return drawn;
}

function bandPath(rows, x, y) {
  let drawn = "";
  let run = [];
  const close = () => {
    if (run.length > 1) {
      const upper = run.map((row) => `${x(row.t).toFixed(1)} ${y(row.high).toFixed(1)}`);
      const lower = run.map((row) => `${x(row.t).toFixed(1)} ${y(row.low).toFixed(1)}`).reverse();
      drawn += `M${upper.join("L")}L${lower.join("L")}Z`;
    }
    run = [];
  };
  for (const row of rows) {
    if (row.low === null) close();
    else run.push(row);
  }
  close();
  return drawn;
}

/**
 * A chart over time.
 * lines: [{points: [[t, v]], class, name, gap}]; band: [{t, low, high}]; limits: [{v, name, class}]; marks: [{t, v, severity}].
 * gap: ms between two points beyond which a line is broken. unit and digits: how the cursor writes values.
 */
export function chart({
  start, end, low, high, lines, band = [], limits = [], marks = [], gap = 0, width = 800, height = 260, unit = "",
  digits = 1, label, cursor = true,
}) {
  const room = { left: 46, right: limits.length ? 74 : 10, top: 8, bottom: 22 };
  const x = (t) => room.left + ((t - start) / Math.max(1, end - start)) * (width - room.left - room.right);
  const y = (v) => height - room.bottom - ((v - low) / (high - low || 1)) * (height - room.top - room.bottom);
  const inside = (v) => v >= low && v <= high;
  const clamp = (v) => Math.min(high, Math.max(low, v));
  const drawing = s("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": label });
  for (const v of ticks(low, high, Math.max(2, Math.floor(height / 50)))) {
    drawing.append(
      s("line", { class: "grid", x1: room.left, x2: width - room.right, y1: y(v), y2: y(v) }),
      s("text", { class: "tick end", x: room.left - 6, y: y(v) + 4 }, short(v)),
    );
  }
  for (const t of timeTicks(start, end, Math.max(2, Math.floor(width / 110)))) {
    const text = end - start < 10 * 60000 ? time(t, t) : shortTime(t);
    drawing.append(s("text", { class: "tick middle", x: x(t), y: height - 6 }, text));
  }
  if (band.length) drawing.append(s("path", { class: "band", d: bandPath(band, x, (v) => y(clamp(v))) }));
  let taken = [];
  for (const limit of limits.filter((one) => inside(one.v))) {
    drawing.append(
      s("line", { class: `limit ${limit.class ?? ""}`, x1: room.left, x2: width - room.right, y1: y(limit.v), y2: y(limit.v) }),
    );
    if (taken.every((at) => Math.abs(at - y(limit.v)) > 11)) {
      drawing.append(s("text", { class: "tick", x: width - room.right + 4, y: y(limit.v) + 4 }, limit.name));
      taken.push(y(limit.v));
    }
  }
  for (const line of lines) {
    drawing.append(s("path", { class: `line ${line.class ?? ""}`, d: path(line.points, x, (v) => y(clamp(v)), line.gap ?? gap) }));
  }
  const size = marks.length > 40 ? 0.42 : 0.62;
  for (const mark of marks) {
    const [at, up] = [x(mark.t) - 8 * size, y(clamp(mark.v)) - 8 * size];
    drawing.append(s("g", { transform: `translate(${at.toFixed(1)} ${up.toFixed(1)}) scale(${size})` }, shape(mark.severity)));
  }
  const frame = h("div", { class: "chart-frame" }, drawing);
  if (cursor && lines[0]?.points.length) addCursor(frame, drawing, { x, y: (v) => y(clamp(v)), lines, width, height, room, unit, digits, start, end });
  return frame;
}

function addCursor(frame, drawing, { x, y, lines, width, height, room, unit, digits, start, end }) {
  const rule = s("line", { class: "cursor", y1: room.top, y2: height - room.bottom, visibility: "hidden" });
  const dot = s("circle", { class: "cursor-dot", r: 3.5, visibility: "hidden" });
  const read = h("p", { class: "reading", "aria-live": "polite" }, "\u00a0");
  drawing.append(rule, dot);
  drawing.setAttribute("tabindex", "0");
  const points = lines[0].points.filter(([, v]) => v !== null && v !== undefined);
  let at = points.length - 1;
  const show = () => {
    const [t, v] = points[at];
    rule.setAttribute("x1", x(t));
    rule.setAttribute("x2", x(t));
    dot.setAttribute("cx", x(t));
    dot.setAttribute("cy", y(v));
    for (const element of [rule, dot]) element.setAttribute("visibility", "visible");
    const others = lines.slice(1).map((line) => [line.name, nearest(line.points, t)]).filter(([, value]) => value !== null);
    read.textContent = [`${time(t, end)} UTC`, `${lines[0].name} ${number(v, digits)} ${unit}`,
      ...others.map(([name, value]) => `${name} ${number(value, digits)} ${unit}`)].join("  ·  ");
  };
  drawing.addEventListener("pointermove", (event) => {
    const box = drawing.getBoundingClientRect();
    const t = start + (((event.clientX - box.left) / box.width) * width - room.left) / (width - room.left - room.right) * (end - start);
    at = indexNear(points, t);
    show();
  });
  drawing.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20, Home: -points.length, End: points.length }[event.key];
    if (!step) return;
    event.preventDefault();
    at = Math.min(points.length - 1, Math.max(0, at + step));
    show();
  });
  drawing.addEventListener("focus", show);
  frame.append(read);
}

function indexNear(points, t) {
  let [low, high] = [0, points.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < t) low = middle + 1;
    else high = middle;
  }
  return low > 0 && t - points[low - 1][0] < points[low][0] - t ? low - 1 : low;
}

function nearest(points, t) {
  return points.length ? points[indexNear(points, t)][1] : null;
}

/** A line without axes for the last values of a figure. */
export function spark(values, width = 96, height = 22) {
  const known = values.filter((value) => value !== null && value !== undefined);
  const high = Math.max(...known, 1e-9);
  const x = (at) => (at / Math.max(1, values.length - 1)) * width;
  const y = (value) => height - 2 - (value / high) * (height - 4);
  const points = values.map((value, at) => [at, value]);
  return s("svg", { viewBox: `0 0 ${width} ${height}`, class: "spark", width, height, "aria-hidden": "true" },
    s("path", { class: "line", d: path(points, x, y, 0) }));
}
