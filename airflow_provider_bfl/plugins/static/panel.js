// SPDX-License-Identifier: Apache-2.0
// The tab of a task instance.

import { loadPreview, RefusedError } from "./airflow.js";
import { Details, Guard, Notice } from "./pieces.js";
import { h, useEffect, useState } from "./react.js";
import { Style } from "./style.js";

/** Airflow gives the ids; for an unmapped task the map index is missing or a placeholder. */
export function Panel({ dagId, runId, taskId, mapIndex }) {
  const [preview, setPreview] = useState(undefined);
  const [error, setError] = useState(null);
  const index = /^\d+$/.test(String(mapIndex)) ? Number(mapIndex) : -1;
  useEffect(() => {
    const leaving = new AbortController();
    setPreview(undefined);
    setError(null);
    loadPreview({ dagId, runId, taskId, mapIndex: index }, leaving.signal).then(setPreview, (failure) => {
      if (!leaving.signal.aborted) setError(failure);
    });
    return () => leaving.abort();
  }, [dagId, runId, taskId, index]);
  return h(
    "div",
    { className: "bfl bfl-panel" },
    h(Style),
    h(Guard, { key: `${runId} ${taskId} ${index}` }, shown(preview, error)),
  );
}

function shown(preview, error) {
  if (error instanceof RefusedError && error.status === 403) {
    return h(
      Notice,
      { title: "No permission" },
      "You may not read the XComs of this Dag, which is where the preview is.",
    );
  }
  if (error instanceof RefusedError && error.status === 404) {
    return h(
      Notice,
      { title: "No generation" },
      "This task instance has submitted nothing to Black Forest Labs in its latest attempt.",
    );
  }
  if (error !== null) return h(Notice, { title: "The preview could not be loaded" }, error.message);
  if (preview === undefined) return h("p", { "aria-busy": true, className: "bfl-muted", role: "status" }, "Loading …");
  if (preview === null) {
    return h(
      Notice,
      { title: "No generation" },
      "What this task stored as its preview is not one this version can show.",
    );
  }
  return h(Details, { preview });
}
