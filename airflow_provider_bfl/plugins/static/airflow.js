// SPDX-License-Identifier: Apache-2.0
// Airflow's own REST API, asked with the session of the browser: it decides what this user may see.

import { readEntry, readPreview } from "./judge.js";

const KEY = "bfl_preview";
const PAGE = 100;

// Airflow 3.1 does not sort XCom entries, so there all of them are listed, up to this many pages, and sorted here.
const MAX_PAGES = 30;

export class RefusedError extends Error {
  constructor(status) {
    super(`Airflow answered ${status}`);
    this.status = status;
  }
}

async function get(path, signal) {
  const answer = await fetch(new URL(`api/v2/${path}`, document.baseURI), {
    credentials: "same-origin",
    headers: { Accept: "application/json" },
    signal,
  });
  if (!answer.ok) throw new RefusedError(answer.status);
  return answer.json();
}

function entriesPath({ dagId = "~", runId = "~", taskId = "~" }) {
  const [dag, run, task] = [dagId, runId, taskId].map(encodeURIComponent);
  return `dags/${dag}/dagRuns/${run}/taskInstances/${task}/xcomEntries`;
}

function isNewestFirst(entries) {
  return entries.every((entry, index) => index === 0 || entries[index - 1].at >= entry.at);
}

/** Return at least `wanted` of the previews this user may see, or all, newest first and without their values. */
export async function listEntries(where, wanted, signal) {
  const found = [];
  let asked = 0;
  let total = 0;
  for (let page = 0; page < MAX_PAGES; page += 1) {
    const query = new URLSearchParams({ xcom_key: KEY, limit: PAGE, offset: asked, order_by: "-timestamp" });
    const answer = await get(`${entriesPath(where)}?${query}`, signal);
    const rows = Array.isArray(answer.xcom_entries) ? answer.xcom_entries : [];
    found.push(...rows.map(readEntry).filter(Boolean));
    asked += rows.length;
    total = Number.isInteger(answer.total_entries) ? answer.total_entries : asked;
    if (rows.length === 0 || asked >= total || (asked >= wanted && isNewestFirst(found))) break;
  }
  const isComplete = asked >= total || isNewestFirst(found);
  return { entries: found.sort((one, other) => other.at - one.at), total, isComplete };
}

/** Return the preview of one task instance; null where there is none, or none that this user may see. */
export async function loadPreview(entry, signal) {
  const query = new URLSearchParams({ map_index: entry.mapIndex });
  const answer = await get(`${entriesPath(entry)}/${KEY}?${query}`, signal);
  return readPreview(answer.value);
}
