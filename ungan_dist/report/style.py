"""The page's style sheet: light and dark by the reader's own setting, no font or file loaded."""

from __future__ import annotations

CSS = """
:root {
  color-scheme: light dark;
  --page: #fbfbfa; --card: #ffffff; --text: #1e2226; --quiet: #5c646d; --line: #dfe2e5; --head: #f2f3f4;
  --good: #1f7a4d; --bad: #b3362f; --over: #8a3fa8; --open: #8a6100; --ref: #4b6078; --warn: #fff4d6;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171a; --card: #1b1f23; --text: #e4e7ea; --quiet: #9aa3ad; --line: #30363c; --head: #23282d;
    --good: #62c795; --bad: #f0847c; --over: #cf96e6; --open: #e0b44c; --ref: #9db4cc; --warn: #362c12;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 16px/1.55 system-ui, -apple-system, "Segoe UI",
  Roboto, "Helvetica Neue", Arial, sans-serif; overflow-wrap: break-word; }
main { max-width: 1240px; margin: 0 auto; padding: 2.2rem 1.25rem 4rem; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .7rem; padding-top: 1.1rem; border-top: 1px solid var(--line); }
p, ul { margin: .5rem 0; max-width: 46rem; }
ul { padding-left: 1.2rem; } li { margin: .25rem 0; }
code, .mono { font: .875em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.summary { font-size: 1.05rem; max-width: none; margin: .2rem 0 .5rem; }
.quiet { color: var(--quiet); } .small { font-size: .875rem; }
.notice { background: var(--warn); border-left: 4px solid var(--open); padding: .7rem 1rem; border-radius: 4px;
  margin: 1rem 0; max-width: 52rem; }
.notice > :first-child { margin-top: 0; } .notice > :last-child { margin-bottom: 0; }
.sizes { display: flex; flex-wrap: wrap; gap: .3rem 1.4rem; padding: 0; margin: .8rem 0 0; list-style: none;
  max-width: none; }
.sizes b { font-variant-numeric: tabular-nums; }
.verdicts { list-style: none; padding: 0; max-width: none; display: grid; gap: .6rem; }
.verdicts li { background: var(--card); border: 1px solid var(--line); border-left: 4px solid var(--tone, var(--line));
  border-radius: 6px; padding: .6rem .9rem; margin: 0; }
.verdicts p { margin: .15rem 0 0; max-width: none; }
.badge { color: var(--tone); font-weight: 650; white-space: nowrap; }
.verdicts .badge { float: right; margin-left: 1rem; font-size: .875rem; }
.equivalent { --tone: var(--good); } .under-forgotten { --tone: var(--bad); } .over-forgotten { --tone: var(--over); }
.inconclusive { --tone: var(--open); } .reference { --tone: var(--ref); }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
.results { min-width: 100%; }
th, td { padding: .45rem .5rem; text-align: right; vertical-align: top; border-bottom: 1px solid var(--line); }
tbody tr:last-child > * { border-bottom: 0; }
thead th { background: var(--head); font-weight: 600; vertical-align: bottom; line-height: 1.3; }
thead .group { text-align: center; } .first { border-left: 1px solid var(--line); }
.results th:first-child { text-align: left; position: sticky; left: 0; background: var(--card); white-space: nowrap;
  z-index: 1; } .results thead th:first-child { background: var(--head); }
.results td, .results tr + tr th { white-space: nowrap; } .results .verdict { text-align: left; }
.results td.reason { white-space: normal; min-width: 6.2rem; color: var(--quiet); font-size: .75rem;
  line-height: 1.35; }
.results thead .group .around { font-weight: 400; }
.around { display: block; color: var(--quiet); font-size: .8125rem; }
.pairs th, .pairs td { text-align: left; } .pairs th { font-weight: 500; } .pairs td { overflow-wrap: anywhere; }
.figures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); }
.figures.dense { grid-template-columns: repeat(auto-fill, minmax(min(100%, 16rem), 1fr)); }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .8rem; }
figure svg { display: block; width: 100%; height: auto; color: var(--quiet); }
figcaption { font-size: .875rem; color: var(--quiet); margin-top: .4rem; }
.examples { display: grid; gap: .7rem; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); }
.examples img { width: 100%; image-rendering: pixelated; } .examples figcaption { font-size: .75rem; }
details { margin: .6rem 0; } summary { cursor: pointer; font-weight: 600; }
details .scroll { margin-top: .6rem; max-width: 52rem; }
@media (max-width: 640px) {
  main { padding: 1.3rem .85rem 3rem; } h1 { font-size: 1.45rem; }
  .verdicts .badge { float: none; margin: 0; display: block; }
  .results th:first-child { white-space: normal; max-width: 8rem; }
}
@media print { .scroll { overflow: visible; } figure, .verdicts li { break-inside: avoid; } }
"""
