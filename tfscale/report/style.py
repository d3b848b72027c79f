"""The look of a report: one style sheet, light and dark, from a phone's width up to a desktop's.

Text keeps a contrast of at least 4.5 to 1 with what is behind it, also on the darkest shade of the
confusion matrix. Series differ by their dashes too, for readers who do not tell the colours apart.
"""

from __future__ import annotations

STYLE = """\
:root {
  color-scheme: light dark;
  --back: #f4f5f7; --card: #fff; --text: #1b1f24; --soft: #57606a; --edge: #d8dde3;
  --grid: #e7eaee; --gap: #c6281e33; --hover: #1b1f240f;
  --right: 9 105 218; --wrong: 214 77 20;
  --c0: #0b62c4; --c1: #b8480a; --c2: #1a7f37; --c3: #8250df;
  --c4: #b5226b; --c5: #0f766e; --c6: #7a5c00; --c7: #57606a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #0e1116; --card: #171b22; --text: #e7ebf0; --soft: #a2acb8; --edge: #2d343e;
    --grid: #262c35; --gap: #ff6b5e40; --hover: #ffffff14;
    --right: 64 140 255; --wrong: 230 100 40;
    --c0: #6cb0ff; --c1: #ffa35c; --c2: #5fd07f; --c3: #c4a2ff;
    --c4: #ff8cc0; --c5: #4fd6c8; --c6: #e2c04d; --c7: #a2acb8;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--back); color: var(--text); overflow-wrap: anywhere;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Open Sans", sans-serif;
}
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 48px; }
h1 { margin: 0; font-size: 26px; line-height: 1.25; letter-spacing: -.01em; }
h2 { margin: 34px 0 12px; font-size: 17px; }
h3 { margin: 18px 0 6px; font-size: 14px; }
p { margin: 0; }
.under { color: var(--soft); margin-top: 4px; }
code, .settings dd { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.command { margin-top: 12px; }
.command code {
  display: block; padding: 8px 12px; background: var(--card); border: 1px solid var(--edge);
  border-radius: 8px;
}
.command span { display: inline-block; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 22px 0 0; }
.tiles > div, .card, .chart {
  background: var(--card); border: 1px solid var(--edge); border-radius: 10px;
}
.tiles > div { flex: 1 1 148px; min-width: 0; padding: 12px 16px; }
.tiles dt { color: var(--soft); font-size: 13px; }
.tiles dd { margin: 0; font-size: 24px; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tiles .first dd { color: var(--c0); font-weight: 600; }
.charts {
  display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr));
}
.chart { margin: 0; padding: 14px 18px 12px 14px; min-width: 0; }
.chart figcaption { font-weight: 600; }
.legend {
  display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 2px 0 12px; padding: 0; list-style: none;
  color: var(--soft); font-size: 13px;
}
.legend svg { width: 24px; height: 8px; margin-right: 6px; vertical-align: 1px; }
.legend b { color: var(--text); font-variant-numeric: tabular-nums; }
.plot { display: grid; grid-template-columns: auto minmax(0, 1fr); }
.plot > svg { width: 100%; height: 200px; display: block; overflow: visible; }
.x, .y, .x-name { color: var(--soft); font-size: 12px; line-height: 16px; }
.x, .y { position: relative; font-variant-numeric: tabular-nums; white-space: nowrap; }
.x b, .y b { visibility: hidden; font-weight: 400; }
.y { padding-right: 8px; }
.y span { position: absolute; right: 8px; transform: translateY(50%); }
.x { grid-column: 2; margin-top: 4px; }
.x span { position: absolute; transform: translateX(-50%); }
.x-name { grid-column: 2; text-align: center; }
.remark { margin-top: 8px; color: var(--soft); font-size: 13px; }
svg path { fill: none; vector-effect: non-scaling-stroke; }
.grid { stroke: var(--grid); }
.axis { stroke: var(--soft); }
.line { stroke-width: 2; stroke-linejoin: round; }
.gap { fill: var(--gap); }
.hover { fill: transparent; }
.hover:hover { fill: var(--hover); }
.c0 { stroke: var(--c0); }
.c1 { stroke: var(--c1); }
.c2 { stroke: var(--c2); }
.c3 { stroke: var(--c3); }
.c4 { stroke: var(--c4); }
.c5 { stroke: var(--c5); }
.c6 { stroke: var(--c6); }
.c7 { stroke: var(--c7); }
.d1 { stroke-dasharray: 6 3; }
.d2 { stroke-dasharray: 2 3; }
.d3 { stroke-dasharray: 9 3 2 3; }
.dots { stroke-width: 5; stroke-linecap: round; stroke-dasharray: none; }
.columns { columns: 2 420px; column-gap: 16px; margin-top: 20px; }
.columns section { break-inside: avoid; padding-top: 14px; }
.columns h2 { margin-top: 0; }
.card { padding: 10px 18px; }
.settings { margin: 0; font-size: 14px; }
.settings > div {
  display: grid; grid-template-columns: minmax(0, 2fr) minmax(0, 3fr); gap: 12px; padding: 5px 0;
}
.settings > div + div { border-top: 1px solid var(--grid); }
.settings dt { color: var(--soft); }
.settings dd { margin: 0; align-self: center; }
.settings .unset { color: var(--soft); font-style: italic; }
.notes { margin: 0; padding-left: 18px; }
.scroll {
  overflow: auto; max-height: 85vh; background: var(--card); border: 1px solid var(--edge);
  border-radius: 10px; overflow-wrap: normal;
}
.scroll:focus-visible, summary:focus-visible { outline: 2px solid var(--c0); }
table { border-collapse: separate; border-spacing: 0; font-size: 13px; }
td, th {
  padding: 4px 8px; text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums;
}
th { font-weight: 600; background: var(--card); }
thead th { position: sticky; top: 0; z-index: 2; border-bottom: 1px solid var(--edge); }
tbody th, tfoot th, .corner { position: sticky; left: 0; z-index: 1; }
tbody th, tfoot th, .corner { border-right: 1px solid var(--edge); }
.corner { z-index: 3; color: var(--soft); vertical-align: bottom; }
.confusion td { text-align: center; min-width: 34px; }
.confusion thead th { text-align: center; vertical-align: bottom; }
.upright thead th:not(.corner, .rate) span {
  writing-mode: vertical-rl; transform: rotate(180deg); text-align: left;
}
.confusion .right { background: rgb(var(--right) / calc(var(--share) * .5)); }
.confusion .wrong { background: rgb(var(--wrong) / calc(.14 + var(--share) * .4)); }
.confusion .rate, tfoot td, tfoot th { color: var(--soft); font-weight: 400; }
tfoot td, tfoot th { border-top: 1px solid var(--edge); }
.beside {
  display: flex; flex-wrap: wrap; align-items: flex-start; gap: 4px 36px; margin-top: 10px;
}
.beside > * { max-width: 100%; }
.pairs ol { margin: 0; padding-left: 22px; }
.pairs h3 { margin-top: 10px; }
details { margin-top: 14px; }
summary { cursor: pointer; color: var(--soft); padding: 4px 0; }
@media (max-width: 480px) {
  main { padding: 20px 14px 36px; }
  h1 { font-size: 22px; }
  .tiles > div { flex-basis: 120px; padding: 10px 12px; }
  .tiles dd { font-size: 20px; }
  .settings > div { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); }
  .confusion td, .confusion th { padding: 4px; }
  .confusion td { min-width: 26px; }
}
@media print {
  body { background: none; }
  .chart, .tiles > div { break-inside: avoid; }
  .scroll { max-height: none; overflow: visible; }
}
"""
