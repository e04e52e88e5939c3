// What every page loads. Each module sets itself up when it is loaded.
import "./bulk.js";
import "./choose.js";
import "./confirm.js";
import "./copy.js";
import "./csrf.js";
import "./forms.js";
import "./palette.js";
import "./refresh.js";
import "./session.js";
import "./shortcuts.js";
import "./times.js";
import "./toast.js";
import "./updates.js";
import "./upload.js";
