// SPDX-License-Identifier: Apache-2.0
// How facts are written: the same in the gallery and in the panel.

const UNITS = ["bytes", "KB", "MB", "GB"];

export function bytes(count) {
  if (count === null || count < 0) return null;
  let [value, unit] = [count, 0];
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${UNITS[unit]}`;
}

export function credits(cost) {
  if (cost === null) return null;
  return `${Number(cost.toFixed(3)).toLocaleString()} ${cost === 1 ? "credit" : "credits"}`;
}

export function seconds(from, to) {
  if (from === null || to === null || to < from) return null;
  return `${((to - from) / 1000).toFixed(1)} s`;
}

export function when(at) {
  return at === null ? null : at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

export function ago(at, now = Date.now()) {
  const past = Math.max(0, (now - at.getTime()) / 1000);
  const format = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
  for (const [unit, length] of [
    ["day", 86400],
    ["hour", 3600],
    ["minute", 60],
  ]) {
    if (past >= length) return format.format(-Math.floor(past / length), unit);
  }
  return format.format(-Math.floor(past), "second");
}

export function dimensions({ width, height }) {
  return width === null || height === null ? null : `${width} × ${height}`;
}

export function isVideo({ contentType }) {
  return contentType !== null && contentType.startsWith("video/");
}

/** What a picture shows, for those who do not see it. */
export function description(preview) {
  if (preview.kind === "batch") return `Contact sheet of a batch of ${preview.total ?? "several"}`;
  const what = isVideo(preview) ? "Video" : "Image";
  const by = preview.model === null ? "" : ` by ${preview.model}`;
  return preview.prompt === null
    ? `${what}${by}, prompt not recorded`
    : `${what}${by}: ${preview.prompt.slice(0, 300)}`;
}

/** The colour a status has: what came out well, what is on its way, and what did not. */
export function tone(status) {
  if (/^(Ready|Done)$/.test(status)) return "good";
  if (/^(Submitted|Pending|Running|Queued|Reasoning|Generating)$/.test(status)) return "open";
  return /^Unknown$/.test(status) ? "none" : "bad";
}
