// What every page loads. Each module sets itself up when it is loaded.
<<<<<<< HEAD
import "./bulk.js";
=======
import "./choose.js";
>>>>>>> d8a7463 (Filter devices by state and group, unbind several at once, and show the binding command as a QR code)
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
