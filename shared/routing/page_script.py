"""What moves the page of the routing: asks for the report, draws it, asks again.

Everything is drawn anew from the report and then laid over what stands there (`fill`),
so that focus, selection and tooltips stay. Text only ever becomes text nodes.
"""

PAGE_SCRIPT = r"""
"use strict";
const EVERY = 2000;
const MINUTES = 60;
const SVG = "http://www.w3.org/2000/svg";
const MARKS = { closed: "●", half_open: "◐", paused: "◔", open: "○" };
const SVG_TAGS = new Set(["svg", "rect", "line", "title"]);
const TEXTS = JSON.parse(document.getElementById("texts").textContent);
const LANGUAGES = [localStorage.locale, ...navigator.languages].filter(Boolean);
const LANGUAGE = LANGUAGES.find((tag) => TEXTS.title[base(tag)]) || "en";
const view = { report: null, paused: false, states: {} };

function base(tag) {
  return tag.split("-")[0].toLowerCase();
}

function t(key, fields = {}) {
  const text = TEXTS[key] ? TEXTS[key][base(LANGUAGE)] || TEXTS[key].en : key;
  return text.replace(/\{(\w+)\}/g, (_, name) => fields[name] ?? "");
}

function number(value, digits = 0) {
  return value.toLocaleString(LANGUAGE, { maximumFractionDigits: digits });
}

function unit(value, name, digits) {
  const style = { style: "unit", unit: name, unitDisplay: "short" };
  const format = { ...style, maximumFractionDigits: digits };
  return new Intl.NumberFormat(LANGUAGE, format).format(value);
}

function seconds(value) {
  if (value === null) return "–";
  if (value < 0.9995) return unit(value * 1000, "millisecond", 0);
  if (value < 119.5) return unit(value, "second", value < 9.95 ? 1 : 0);
  return unit(value / 60, "minute", value < 597 ? 1 : 0);
}

function rate(value) {
  return value === null ? "–" : number(value, value < 9.95 ? 1 : 0);
}

function clock(epoch) {
  const date = new Date(epoch * 1000);
  return date.toLocaleTimeString(LANGUAGE, { timeStyle: "medium" });
}

function h(tag, attributes, ...children) {
  const node = SVG_TAGS.has(tag)
    ? document.createElementNS(SVG, tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (value !== null) node.setAttribute(name, value);
  node.append(...children.flat().filter((child) => child !== null));
  return node;
}

function lay(fresh, old) {
  if (old.nodeName !== fresh.nodeName) return old.replaceWith(fresh);
  if (fresh.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes])
    if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes)
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  fill(old, ...fresh.childNodes);
}

function fill(node, ...children) {
  const standing = [...node.childNodes];
  children.forEach((child, place) =>
    place < standing.length ? lay(child, standing[place]) : node.append(child));
  standing.slice(children.length).forEach((child) => child.remove());
}

function sum(counts) {
  return Object.values(counts).reduce((total, count) => total + count, 0);
}

function listed(counts, name = (key) => key) {
  return Object.entries(counts)
    .filter((entry) => entry[1])
    .sort((one, other) => other[1] - one[1])
    .map(([key, count]) => `${name(key)} ${number(count)}`)
    .join(" · ");
}

function figure(term, value, detail = "") {
  return h("div", {}, h("dt", {}, term), h("dd", {}, value),
    detail ? h("dd", { class: "soft" }, detail) : null);
}

function usual(spread, format) {
  return [format(spread.last_hour.p50), `${t("nearly_all")}: ${format(spread.last_hour.p95)}`];
}

function legend(errors) {
  const mark = (kind, key) => h("span", { class: `mark ${kind}` }, t(key));
  const marks = errors ? [] : [mark("p50", "half"), mark("p95", "nearly_all")];
  if (errors && errors.length) marks.push(mark("error", "errors"));
  return h("span", { "aria-hidden": "true" }, marks);
}

function plot(what, spread, format, end, errors = null) {
  const { p50, p95 } = spread.last_hour;
  const top = Math.max(...spread.by_minute.map((row) => row[3]), 0);
  const left = (minute) => (minute - end + MINUTES - 1) * 10;
  const bar = (kind, minute, height) =>
    h("rect", { class: kind, x: left(minute) + 1, width: 8, y: 100 - height, height });
  const failed = Object.fromEntries(errors || []);
  const minutes = new Set([...spread.by_minute, ...(errors || [])].map((row) => row[0]));
  const rows = Object.fromEntries(spread.by_minute.map((row) => [row[0], row]));
  const bars = [...minutes].sort().flatMap((minute) => {
    const row = rows[minute];
    const told = [clock(minute * 60)];
    if (row) told.push(`${number(row[1])} × ${format(row[2])}, ${t("nearly_all")}: ${format(row[3])}`);
    if (failed[minute]) told.push(`${t("errors")}: ${number(failed[minute])}`);
    return [
      row && top ? bar("p95", minute, Math.max((row[3] / top) * 100, 1)) : null,
      row && top ? bar("p50", minute, Math.max((row[2] / top) * 100, 1)) : null,
      failed[minute] ? bar("error", minute, 8) : null,
      h("rect", { class: "minute", x: left(minute), width: 10, y: 0, height: 100 },
        h("title", {}, told.join("\n"))),
    ];
  });
  const label = t("plot", { what, half: t("half"), nearly_all: t("nearly_all"),
    p50: format(p50), p95: format(p95) });
  const scale = top ? `${t("at_most")} ${format(top)}` : t("nothing");
  return h("figure", {},
    h("figcaption", {}, h("span", {}, what), h("span", {}, scale)),
    h("svg", { class: "plot", viewBox: "0 0 600 100", preserveAspectRatio: "none",
      role: "img", "aria-label": label },
      h("line", { x1: 0, x2: 600, y1: 100, y2: 100 }), bars),
    h("figcaption", {}, h("span", {}, t("hour_ago")), legend(errors), h("span", {}, t("now"))));
}

function loadBar(upstream) {
  const slots = upstream.concurrency;
  if (!slots || slots > 40) return null;
  const step = 100 / slots;
  return h("svg", { class: "bar", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
    Array.from({ length: slots }, (_, slot) =>
      h("rect", { class: slot < upstream.running ? "used" : "free",
        x: slot * step, width: step - Math.min(1, step / 4), y: 0, height: 8 })));
}

function used(running, limit) {
  return limit === null ? number(running) : t("of", { used: number(running), limit: number(limit) });
}

function kept(affinity) {
  const held = affinity.kept || 0;
  const all = held + (affinity.moved || 0);
  return all ? (held / all).toLocaleString(LANGUAGE, { style: "percent" }) : "–";
}

function stateLine(upstream) {
  const parts = [`${MARKS[upstream.breaker]} ${t(upstream.breaker)}`];
  if (upstream.error) parts.push(t("because", { code: upstream.error }));
  if (upstream.retry_in !== null) parts.push(t("again", { seconds: seconds(upstream.retry_in) }));
  return h("span", { class: `state ${upstream.breaker}` }, parts.join(", "));
}

function drawUpstream(upstream, end) {
  const errors = sum(upstream.errors);
  return h("article", { class: "upstream" },
    h("div", { class: "top" }, h("h3", {}, upstream.name), stateLine(upstream)),
    Object.entries(upstream.models).map(([model, code]) =>
      h("p", { class: "state open" }, `${MARKS.open} ${model}: ${t("open")}, ${t("because", { code })}`)),
    loadBar(upstream),
    h("dl", {},
      figure(t("running"), used(upstream.running, upstream.concurrency)),
      figure(t("first_token"), ...usual(upstream.first_token, seconds)),
      figure(t("token_rate"), rate(upstream.token_rate.last_hour.p50)),
      figure(t("kept"), kept(upstream.affinity)),
      figure(t("attempts"), number(upstream.attempts), upstream.retries ? `${t("retries")}: ${number(upstream.retries)}` : ""),
      figure(t("errors"), number(errors), listed(upstream.errors, (code) => code === "cancelled" ? t(code) : code)),
      upstream.weight === 1 ? null : figure(t("weight"), number(upstream.weight, 2))),
    plot(t("first_token"), upstream.first_token, seconds, end, upstream.errors_by_minute));
}

function drawPool(pool, end, place) {
  const running = pool.upstreams.reduce((total, one) => total + one.running, 0);
  const limits = pool.upstreams.map((one) => one.concurrency);
  const limit = limits.includes(null) ? null : limits.reduce((total, one) => total + one, 0);
  const left = Object.values(pool.left).flatMap(Object.entries);
  const why = left.reduce((all, [key, count]) => ({ ...all, [key]: (all[key] || 0) + count }), {});
  return h("section", { class: "card", "aria-labelledby": `pool-${place}` },
    h("h2", { id: `pool-${place}` }, pool.name),
    h("dl", { class: "figures" },
      figure(t("waiting"), number(sum(pool.waiting)), listed(pool.waiting, t)),
      figure(t("running"), used(running, limit)),
      figure(t("wait"), ...usual(pool.wait, seconds)),
      figure(t("requests"), number(pool.wait.last_hour.count)),
      figure(t("left"), number(sum(why)), listed(why, t)),
      figure(t("fallbacks"), number(sum(pool.fallbacks)), listed(pool.fallbacks))),
    plot(t("wait"), pool.wait, seconds, end),
    h("div", { class: "upstreams" }, pool.upstreams.map((one) => drawUpstream(one, end))));
}

function drawReport(report) {
  const end = Math.floor(report.now / 60);
  if (report.pools.length) return report.pools.map((pool, place) => drawPool(pool, end, place));
  return [h("section", { class: "card" }, h("h2", {}, t("empty")), h("p", {}, t("empty_hint")))];
}

function drawProblem(problem) {
  if (!problem) return [];
  const back = `../../../auth?redirect=${encodeURIComponent(location.pathname)}`;
  const time = view.report ? clock(view.report.now) : "–";
  return [h("section", { class: "card problem" }, h("p", {}, t(problem, { time })),
    problem === "signed_out" ? h("p", {}, h("a", { class: "button", href: back }, t("sign_in"))) : null)];
}

function news(report) {
  const changes = [];
  for (const pool of report.pools)
    for (const { name, breaker } of pool.upstreams) {
      const key = `${pool.name}: ${name}`;
      if ((view.states[key] || breaker) !== breaker) changes.push(`${key}: ${t(breaker)}`);
      view.states[key] = breaker;
    }
  return changes.join(". ");
}

function asOf(report) {
  const parts = [t("updated", { time: clock(report.now) })];
  if (report.replicas > 1) parts.push(t("replicas", { count: number(report.replicas) }));
  return parts.join(" · ");
}

function show(problem) {
  const report = problem && problem !== "lost" ? null : view.report;
  fill(document.getElementById("problem"), ...drawProblem(problem));
  fill(document.querySelector("main"), ...(report ? drawReport(report) : []));
  document.getElementById("as-of").textContent = report ? asOf(report) : "";
  const changed = report ? news(report) : "";
  if (changed) document.getElementById("news").textContent = changed;
}

async function ask() {
  const headers = localStorage.token ? { Authorization: `Bearer ${localStorage.token}` } : {};
  let answer;
  try {
    answer = await fetch("routing.json", { headers, cache: "no-store" });
    if (answer.ok) view.report = await answer.json();
  } catch {
    return "lost"; // the network, or something in between that answered with a page
  }
  if (answer.ok) return "";
  if (answer.status === 404) return "gone";
  if (answer.status === 401) return "signed_out";
  return answer.status === 403 ? "not_admin" : "lost";
}

async function refresh() {
  if (!view.paused && !document.hidden) show(await ask());
  setTimeout(refresh, EVERY);
}

function pause() {
  view.paused = !view.paused;
  this.textContent = t(view.paused ? "resume" : "pause");
}

function dress() {
  const theme = localStorage.theme || "";
  const root = document.documentElement;
  if (theme.includes("dark")) root.classList.add("dark");
  if (theme.includes("light")) root.classList.add("light");
  root.lang = LANGUAGE;
  document.title = t("title");
  document.querySelector("h1").textContent = t("title");
  document.getElementById("as-of").textContent = t("loading");
  const button = document.querySelector("button");
  button.textContent = t("pause");
  button.addEventListener("click", pause);
}

dress();
refresh();
"""
