-- Requests of a browser for objects /0 to /COUNT-1, chosen by Zipf(ALPHA), prepared before the load begins.
local COUNT, ALPHA, PREPARED = 5000, 0.9, 65536
local cumulative, total = {}, 0
for rank = 1, COUNT do
  total = total + 1 / rank ^ ALPHA
  cumulative[rank] = total
end

local function choose()
  local point, low, high = math.random() * total, 1, COUNT
  while low < high do
    local middle = math.floor((low + high) / 2)
    if cumulative[middle] < point then low = middle + 1 else high = middle end
  end
  -- A permutation of the ranks, so that popularity and size have nothing to do with each other's order.
  return (low * 2003) % COUNT
end

local headers = {
  ["Host"] = "www.bench.test",
  ["Connection"] = "keep-alive",
  ["sec-ch-ua"] = '"Chromium";v="130", "Google Chrome";v="130", "Not?A_Brand";v="99"',
  ["sec-ch-ua-mobile"] = "?0",
  ["sec-ch-ua-platform"] = '"Linux"',
  ["Upgrade-Insecure-Requests"] = "1",
  ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
  ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7",
  ["Sec-Fetch-Site"] = "same-origin",
  ["Sec-Fetch-Mode"] = "navigate",
  ["Sec-Fetch-User"] = "?1",
  ["Sec-Fetch-Dest"] = "document",
  ["Referer"] = "https://www.bench.test/index.html",
  ["Accept-Encoding"] = "gzip, deflate, br, zstd",
  ["Accept-Language"] = "en-US,en;q=0.9",
}

local requests, at = {}, 0

function init(arguments)
  math.randomseed(tonumber(arguments[1]) or 1)
  for n = 1, PREPARED do
    requests[n] = wrk.format("GET", "/" .. choose(), headers)
  end
end

function request()
  at = at % PREPARED + 1
  return requests[at]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format('{"requests": %d, "duration_s": %.6f, "errors": %d}\n', summary.requests,
    summary.duration / 1e6, errors.connect + errors.read + errors.write + errors.timeout + errors.status))
end
