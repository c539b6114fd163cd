// Says at the end of each page which server sent it: the headers that came with it tell.
const served = document.getElementById("served");

async function tellWhoServed() {
  // The browser still has the page, so this rarely leaves it; what it kept has the headers that came with it.
  const response = await fetch(location.href);
  await response.text();
  const status = response.headers.get("cache-status");
  const [timing] = performance.getEntriesByType("navigation");
  const parts = [];
  if (status) {
    const [server, ...rest] = status.split(",").pop().split(";").map((part) => part.trim());
    parts.push(`Served by ${server}`, rest.includes("hit") ? "from its cache" : "fetched for you");
  } else {
    parts.push("Served by the origin itself");
  }
  const age = response.headers.get("age");
  if (age !== null) parts.push(`${age} s old`);
  if (timing && timing.responseStart > 0) {
    parts.push(`first byte after ${(timing.responseStart - timing.startTime).toFixed(1)} ms`);
  }
  served.textContent = `${parts.join(", ")}.`;
}

if (served) tellWhoServed().catch(() => { served.textContent = ""; });
