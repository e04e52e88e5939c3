// What every page loads. Each module sets itself up on import.
import "./confirm.js";
import "./copy.js";
import "./csrf.js";
import "./times.js";
import "./toast.js";
import "./updates.js";
import "./upload.js";
