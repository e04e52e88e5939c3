// plotly.js (through d3) writes some styles as attributes, which the content security policy refuses. Set through the
// CSSOM, the same styles are allowed: whoever can run script here could set them anyway.
"use strict";
{
  const setAttribute = Element.prototype.setAttribute;
  Element.prototype.setAttribute = function (name, value) {
    if (name === "style" && this.style) this.style.cssText = value;
    else setAttribute.call(this, name, value);
  };
}
