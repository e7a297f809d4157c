/** Which value has which colour. All scales are told apart without red or green, and in grey. */

/** matplotlib's magma, 256 colours of six hexadecimal digits: what `attnchain_interp.pictures` draws maps in. */
const MAGMA =
  "00000401000501010601010802010902020b02020d03030f03031204041405041606051806051a07061c08071e0907200a08220b09240c09260d0a29" +
  "0e0b2b100b2d110c2f120d31130d34140e36150e38160f3b180f3d19103f1a10421c10441d11471e114920114b21114e221150241253251255271258" +
  "29115a2a115c2c115f2d11612f116331116533106734106936106b38106c390f6e3b0f703d0f713f0f72400f74420f75440f76451077471078491078" +
  "4a10794c117a4e117b4f127b51127c52137c54137d56147d57157e59157e5a167e5c167f5d177f5f187f601880621980641a80651a80671b80681c81" +
  "6a1c816b1d816d1d816e1e81701f81721f817320817521817621817822817922827b23827c23827e2482802582812581832681842681862781882781" +
  "8928818b29818c29818e2a81902a81912b81932b80942c80962c80982d80992d809b2e7f9c2e7f9e2f7fa02f7fa1307ea3307ea5317ea6317da8327d" +
  "aa337dab337cad347cae347bb0357bb2357bb3367ab5367ab73779b83779ba3878bc3978bd3977bf3a77c03a76c23b75c43c75c53c74c73d73c83e73" +
  "ca3e72cc3f71cd4071cf4070d0416fd2426fd3436ed5446dd6456cd8456cd9466bdb476adc4869de4968df4a68e04c67e24d66e34e65e44f64e55064" +
  "e75263e85362e95462ea5661eb5760ec5860ed5a5fee5b5eef5d5ef05f5ef1605df2625df2645cf3655cf4675cf4695cf56b5cf66c5cf66e5cf7705c" +
  "f7725cf8745cf8765cf9785df9795df97b5dfa7d5efa7f5efa815ffb835ffb8560fb8761fc8961fc8a62fc8c63fc8e64fc9065fd9266fd9467fd9668" +
  "fd9869fd9a6afd9b6bfe9d6cfe9f6dfea16efea36ffea571fea772fea973feaa74feac76feae77feb078feb27afeb47bfeb67cfeb77efeb97ffebb81" +
  "febd82febf84fec185fec287fec488fec68afec88cfeca8dfecc8ffecd90fecf92fed194fed395fed597fed799fed89afdda9cfddc9efddea0fde0a1" +
  "fde2a3fde3a5fde5a7fde7a9fde9aafdebacfcecaefceeb0fcf0b2fcf2b4fcf4b6fcf6b8fcf7b9fcf9bbfcfbbdfcfdbf";

/** matplotlib's Blues at nine places: what `text_html` shades tokens in. */
const BLUES = ["f7fbff", "deebf7", "c6dbef", "9dcae1", "6aaed6", "4191c6", "2070b4", "08509b", "08306b"];

/** The frame of an attention sink: its colour, and its dashes. */
export const SINK = "#e69f00", DASHES = [4, 3];

/** Okabe and Ito's colours, of metastable states. */
export const REGIONS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"];

const bytes = (hex, at) => [0, 2, 4].map((k) => parseInt(hex.slice(at + k, at + k + 2), 16));
const MAP = Array.from({ length: 256 }, (_, k) => bytes(MAGMA, 6 * k));
const SHADES = BLUES.map((hex) => bytes(hex, 0));

/** [red, green, blue] of a map's value, from 0 to 1. */
export function mapColour(share) {
  return MAP[Math.min(255, Math.max(0, Math.round(255 * share)))];
}

/** [red, green, blue] of a shade from 0 to 1; on a dark page from dark to light. */
export function shade(share, dark) {
  const place = Math.min(1, Math.max(0, dark ? 1 - share : share)) * (SHADES.length - 1);
  const low = Math.min(SHADES.length - 2, Math.floor(place));
  return SHADES[low].map((from, k) => Math.round(from + (place - low) * (SHADES[low + 1][k] - from)));
}

/** The relative luminance of a colour, from 0 to 1 (WCAG 2). */
export function luminance(colour) {
  const linear = colour.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
}

/** Black or white, whichever is easier to read on a colour. */
export const ink = (colour) => (luminance(colour) > 0.179 ? "#000000" : "#ffffff");

export const css = (colour) => `#${colour.map((c) => c.toString(16).padStart(2, "0")).join("")}`;
