// SPDX-License-Identifier: Apache-2.0
// Airflow finds the components under the names that plugins/ui.py gives it.

import { Gallery } from "./gallery.js";
import { Panel } from "./panel.js";

globalThis["BFL"] = Gallery;
globalThis["BFL Generation"] = Panel;
