// SPDX-License-Identifier: Apache-2.0
// Airflow's own colours, which change with its light and dark mode; the second value is for a version without them.

import { h } from "./react.js";

const CSS = `
.bfl {
  --text: var(--chakra-colors-fg, CanvasText); --muted: var(--chakra-colors-fg-muted, GrayText);
  --panel: var(--chakra-colors-bg-panel, Canvas); --sunk: var(--chakra-colors-bg-muted, #8881);
  --line: var(--chakra-colors-border, #8885); --link: var(--chakra-colors-fg-info, LinkText);
  --focus: var(--chakra-colors-brand-focus-ring, Highlight);
  color: var(--text); font-size: 14px; line-height: 1.45; padding: 12px 16px 32px;
}
.bfl h1 { font-size: 20px; font-weight: 600; }
.bfl h3 { font-size: 13px; font-weight: 600; letter-spacing: .02em; margin-bottom: 6px; color: var(--muted); }
.bfl header { display: flex; flex-wrap: wrap; gap: 12px 24px; align-items: end; justify-content: space-between; }
.bfl a { color: var(--link); text-decoration: none; }
.bfl a:hover { text-decoration: underline; }
.bfl code { font-family: ui-monospace, monospace; font-size: 12px; overflow-wrap: anywhere; }
.bfl :is(a, button, select):focus-visible { outline: 2px solid var(--focus); outline-offset: 2px; border-radius: 4px; }
.bfl-hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.bfl-muted { color: var(--muted); }
.bfl-filters { display: flex; flex-wrap: wrap; gap: 8px 12px; align-items: end; }
.bfl-choice { display: grid; gap: 2px; font-size: 12px; color: var(--muted); }
.bfl-filters select, .bfl-button {
  min-height: 32px; padding: 4px 10px; border: 1px solid var(--line); border-radius: 6px;
  background: var(--panel); color: var(--text); font-size: 14px; max-width: 280px;
}
.bfl-button { cursor: pointer; }
.bfl-button:hover:enabled { background: var(--sunk); }
.bfl-button:disabled { opacity: .6; cursor: default; }
.bfl-more { display: block; margin: 20px auto 0; }
.bfl-totals { margin: 10px 0 14px; color: var(--muted); font-variant-numeric: tabular-nums; }
.bfl-cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: 16px; list-style: none; padding: 0; }
.bfl-cards > li { min-width: 0; display: grid; }
.bfl-card { display: flex; flex-direction: column; overflow: hidden; border: 1px solid var(--line); border-radius: 10px; background: var(--panel); }
.bfl-picture { display: block; aspect-ratio: 4 / 3; padding: 0; border: 0; background: var(--sunk); cursor: zoom-in; overflow: hidden; }
.bfl .bfl-picture:focus-visible { outline-offset: -3px; }
.bfl-image { width: 100%; height: 100%; object-fit: contain; display: block; }
.bfl-sheet { display: grid; width: 100%; height: 100%; gap: 2px; grid-auto-rows: minmax(0, 1fr); }
.bfl-of-1 { grid-template-columns: 1fr; } .bfl-of-2 { grid-template-columns: repeat(2, 1fr); }
.bfl-of-3 { grid-template-columns: repeat(3, 1fr); } .bfl-of-4 { grid-template-columns: repeat(4, 1fr); }
.bfl-sheet img { width: 100%; height: 100%; min-height: 0; object-fit: cover; display: block; }
.bfl-blank { display: grid; place-content: center; justify-items: center; gap: 6px; width: 100%; height: 100%; min-height: 90px; color: var(--muted); font-size: 13px; }
.bfl-glyph { width: 40px; height: 40px; opacity: .8; }
.bfl-caption { padding: 10px 12px 12px; display: flex; flex-direction: column; gap: 4px; }
.bfl-line { display: flex; gap: 8px; justify-content: space-between; align-items: center; min-width: 0; }
.bfl-line > time { flex: none; font-size: 12px; }
.bfl-caption { flex: 1; }
.bfl-caption > :last-child { margin-top: auto; padding-top: 2px; }
.bfl-task { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; min-width: 0; }
.bfl-clamp { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; overflow: hidden; overflow-wrap: anywhere; }
.bfl-badge { flex: none; padding: 1px 8px; border-radius: 999px; font-size: 12px; font-weight: 500; border: 1px solid transparent; }
.bfl-good { background: var(--chakra-colors-green-subtle, #c6f6d5); color: var(--chakra-colors-green-fg, #14532d); }
.bfl-open { background: var(--chakra-colors-blue-subtle, #dbeafe); color: var(--chakra-colors-blue-fg, #1e3a8a); }
.bfl-bad { background: var(--chakra-colors-red-subtle, #fee2e2); color: var(--chakra-colors-red-fg, #7f1d1d); }
.bfl-none { border-color: var(--line); color: var(--muted); }
.bfl-place { display: flex; gap: 6px; align-items: baseline; min-width: 0; font-size: 12px; }
.bfl-place > :first-child { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; min-width: 0; }
.bfl-facts .bfl-place > :first-child { white-space: normal; overflow-wrap: anywhere; }
.bfl-copy { flex: none; border: 1px solid var(--line); border-radius: 4px; padding: 0 6px; font-size: 11px; color: var(--muted); background: transparent; cursor: pointer; }
.bfl-copy:hover { color: var(--text); background: var(--sunk); }
.bfl-notice { display: grid; gap: 8px; justify-items: center; text-align: center; max-width: 560px; margin: 48px auto; color: var(--muted); }
.bfl-notice-title { font-size: 16px; font-weight: 600; color: var(--text); }
.bfl-details { display: flex; flex-wrap: wrap; gap: 24px; align-items: flex-start; }
.bfl-frame { flex: 1 1 300px; max-width: 512px; background: var(--sunk); border-radius: 10px; overflow: hidden; min-height: 180px; display: grid; }
.bfl-facts { flex: 2 1 380px; min-width: 0; display: grid; gap: 16px; }
.bfl-facts dl { display: grid; grid-template-columns: minmax(110px, max-content) minmax(0, 1fr); gap: 4px 16px; margin: 0; }
.bfl-facts dt { color: var(--muted); overflow-wrap: anywhere; }
.bfl-facts dd { margin: 0; overflow-wrap: anywhere; white-space: pre-line; }
.bfl-warning { border: 1px solid var(--chakra-colors-orange-solid, #c2410c); border-radius: 8px; padding: 8px 12px; }
.bfl-items { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 14px; list-style: none; padding: 0; }
.bfl-items > li { display: grid; gap: 3px; align-content: start; min-width: 0; font-size: 12px; }
.bfl-items > li > * { min-width: 0; overflow-wrap: anywhere; }
.bfl-items .bfl-image, .bfl-items .bfl-blank { aspect-ratio: 1; object-fit: cover; background: var(--sunk); border-radius: 6px; }
.bfl-items section, .bfl-facts + section { margin-top: 20px; }
.bfl-dialog { margin: auto; width: min(1080px, 94vw); max-height: 90vh; padding: 0; border: 1px solid var(--line); border-radius: 12px; background: var(--panel); color: var(--text); overflow: auto; }
.bfl-dialog::backdrop { background: #0009; }
.bfl-sheet-of-facts { display: grid; gap: 16px; padding: 16px 20px 24px; }
`;

export function Style() {
  return h("style", null, CSS);
}
