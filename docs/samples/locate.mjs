// Locate with ONNX Runtime in Node.js: node locate.mjs model.onnx receivers.json
// The files are those of locate.py, which says what is in them.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";

// The first `samples` of a .npy file of complex64, as real parts and imaginary parts.
function readIq(path, samples) {
  const bytes = readFileSync(path);
  if (bytes.toString("latin1", 0, 6) !== "\x93NUMPY") throw new Error(`${path}: no .npy file`);
  const [headerAt, headerLength] = bytes[6] === 1 ? [10, bytes.readUInt16LE(8)] : [12, bytes.readUInt32LE(8)];
  const dataAt = headerAt + headerLength;
  const header = bytes.toString("latin1", headerAt, dataAt);
  const length = /'shape': \((\d+),\)/.exec(header)?.[1];
  if (!header.includes("'<c8'") || !length) throw new Error(`${path}: not complex64 of one dimension`);
  if (Number(length) < samples) throw new Error(`${path}: ${length} samples, ${samples} are needed`);
  const parts = [new Float32Array(samples), new Float32Array(samples)];
  for (let n = 0; n < 2 * samples; n++) parts[n % 2][n >> 1] = bytes.readFloatLE(dataAt + 4 * n);
  return parts;
}

// One transmission (B = 1) as the graph takes it.
function readInputs(path, samples) {
  const receivers = JSON.parse(readFileSync(path, "utf8"));
  const count = receivers.length;
  const [i, q] = [new Float32Array(count * samples), new Float32Array(count * samples)];
  receivers.forEach((one, row) => {
    const [real, imaginary] = readIq(join(dirname(path), one.recording), samples);
    i.set(real, row * samples);
    q.set(imaginary, row * samples);
  });
  const places = receivers.flatMap((one) => [one.latitude, one.longitude]);
  const float32 = (values, shape) => new Tensor("float32", Float32Array.from(values), shape);
  return {
    i: float32(i, [1, count, samples]),
    q: float32(q, [1, count, samples]),
    receiver_deg: new Tensor("float64", Float64Array.from(places), [1, count, 2]),
    altitude_m: float32(receivers.map((one) => one.altitude_m), [1, count]),
    clock_sigma_s: float32(receivers.map((one) => one.clock_sigma_s), [1, count]),
    heard: float32(receivers.map(() => 1), [1, count]), // 0 for one that recorded nothing of use
  };
}

// Radius of the circle that holds 68 % of a Gaussian with this covariance: bisected, its mass averaged over directions.
function radius68(covariance) {
  const [a, b, , d] = covariance;
  const [middle, root] = [(a + d) / 2, Math.hypot((a - d) / 2, b)];
  const spread = Array.from({ length: 1000 }, (_, k) => {
    const angle = ((k + 0.5) * Math.PI) / 2000;
    return (middle - root) * Math.cos(angle) ** 2 + (middle + root) * Math.sin(angle) ** 2;
  });
  let [low, high] = [0, -2 * Math.log(0.32) * (middle + root)];
  for (let n = 0; n < 60; n++) {
    const square = (low + high) / 2;
    const inside = spread.reduce((sum, s) => sum + 1 - Math.exp(-square / (2 * s)), 0) / spread.length;
    if (inside < 0.68) low = square;
    else high = square;
  }
  return Math.sqrt(high);
}

const [modelPath, receiversPath] = process.argv.slice(2);
const session = await InferenceSession.create(modelPath, { logSeverityLevel: 3 }); // errors only
const names = session.inputNames;
if (!names.includes("i") || names.includes("identity")) {
  throw new Error(`${modelPath} takes ${names.join(", ")}; this sample serves models that take raw IQ alone`);
}
const samples = session.inputMetadata.find((input) => input.name === "i").shape[2];
const { position_deg, covariance_m2 } = await session.run(readInputs(receiversPath, samples));
const [latitude, longitude] = position_deg.data;
console.log(`${latitude.toFixed(7)} ${longitude.toFixed(7)} ${radius68(covariance_m2.data).toFixed(2)}`);
