-- GET of objects /0 to /COUNT-1, chosen by Zipf(ALPHA), with the fields that wrk is told; prepared before the load
-- begins.
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

local requests, at = {}, 0

function init(arguments)
  math.randomseed(tonumber(arguments[1]) or 1)
  for n = 1, PREPARED do
    requests[n] = wrk.format("GET", "/" .. choose())
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
