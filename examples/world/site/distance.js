// What distance does to one TCP connection: round trip by fibre, throughput by Mathis and others (1997).
const ACCESS_MS = 5, MS_PER_KM = 0.015, SEGMENT_BITS = 1460 * 8, MATHIS = 1.22;
const slider = document.getElementById("km");
const out = (name) => document.getElementById(name);

function show() {
  const km = Number(slider.value);
  const roundTripMs = ACCESS_MS + km * MS_PER_KM;
  const loss = 0.0006 + km * 1e-7;
  const megabits = (MATHIS * SEGMENT_BITS) / ((roundTripMs / 1000) * Math.sqrt(loss)) / 1e6;
  const seconds = (1000 * 8) / megabits;
  out("out-km").textContent = `${km.toLocaleString("en")} km`;
  out("out-rtt").textContent = `${roundTripMs.toFixed(0)} ms`;
  out("out-mbps").textContent = `${megabits.toFixed(megabits < 10 ? 1 : 0)} Mbit/s`;
  out("out-time").textContent = seconds < 120 ? `${seconds.toFixed(0)} s` : `${(seconds / 60).toFixed(0)} min`;
}

slider.addEventListener("input", show);
show();
