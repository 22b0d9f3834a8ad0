"""The look of the page of the routing."""

PAGE_STYLE = """\
:root {
  color-scheme: light dark;
  --ground: light-dark(#f7f7f8, #171717);
  --card: light-dark(#ffffff, #212121);
  --line: light-dark(#e3e3e6, #383838);
  --text: light-dark(#1b1b1f, #ececec);
  --soft: light-dark(#5d5d66, #b0b0b4);
  --blue: light-dark(#2563c9, #6ea8ff);
  --band: light-dark(#c9dcfa, #2b4670);
  --green: light-dark(#17713c, #5fd38d);
  --amber: light-dark(#8f5a00, #f0b649);
  --red: light-dark(#b3261e, #ff8a80);
}
:root.light { color-scheme: light; }
:root.dark { color-scheme: dark; }
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 76rem; padding: 1.25rem 1rem 3rem;
  background: var(--ground); color: var(--text);
  font: 15px/1.45 system-ui, sans-serif; overflow-wrap: anywhere;
}
header { display: flex; flex-wrap: wrap; gap: .25rem 1rem; align-items: center; }
h1 { font-size: 1.35rem; margin: 0; flex: 1 1 auto; }
h2 { font-size: 1.1rem; margin: 0 0 .75rem; }
h3 { font-size: 1rem; margin: 0; flex: 1 1 auto; }
header p, .soft, dt, figcaption { color: var(--soft); font-size: .85rem; margin: 0; }
button, .button {
  font: inherit; color: inherit; background: var(--card); cursor: pointer;
  border: 1px solid var(--line); border-radius: 999px; padding: .35rem 1rem;
  text-decoration: none; display: inline-block; min-height: 2.2rem;
}
:focus-visible { outline: 2px solid var(--blue); outline-offset: 2px; }
.card {
  background: var(--card); border: 1px solid var(--line); border-radius: 1rem;
  padding: 1rem; margin-top: 1rem;
}
.problem { border-color: var(--red); }
.problem p { margin: 0 0 .75rem; }
.problem p:last-child { margin: 0; }
dl { display: grid; gap: .6rem 1.5rem; margin: 0; }
.figures { grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); }
.upstream dl { grid-template-columns: 1fr 1fr; }
dd { margin: 0; font-variant-numeric: tabular-nums; }
.figures > div > dd:first-of-type { font-size: 1.25rem; font-weight: 600; }
.upstreams {
  display: grid; gap: .75rem; margin-top: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(18rem, 100%), 1fr));
}
.upstream { border: 1px solid var(--line); border-radius: .75rem; padding: .85rem; }
.top { display: flex; flex-wrap: wrap; gap: .1rem .75rem; align-items: baseline; }
.state { font-size: .85rem; font-weight: 600; margin: 0; }
.state.closed { color: var(--green); }
.state.half_open, .state.paused { color: var(--amber); }
.state.open { color: var(--red); }
.bar { width: 100%; height: 8px; margin: .5rem 0 .6rem; display: block; }
.bar rect { fill: var(--line); }
.bar rect.used { fill: var(--blue); }
figure { margin: .9rem 0 0; }
figcaption { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 1rem; }
.plot { width: 100%; height: 4.5rem; display: block; margin: .2rem 0; }
.upstream .plot { height: 3rem; }
.plot line { stroke: var(--line); vector-effect: non-scaling-stroke; }
.plot .p95 { fill: var(--band); }
.plot .p50 { fill: var(--blue); }
.plot .error { fill: var(--red); }
.plot .minute { fill: transparent; }
.plot .minute:hover { fill: currentColor; fill-opacity: .12; }
.mark::before {
  content: ""; display: inline-block; width: .6em; height: .6em; margin: 0 .35em 0 .8em;
}
.mark.p50::before { background: var(--blue); }
.mark.p95::before { background: var(--band); }
.mark.error::before { background: var(--red); }
.hidden {
  position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%);
}
"""
