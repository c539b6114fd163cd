-- GET of one target, given as the first argument; each "#" in it stands for a number that no other request of this
-- run has, and the second argument keeps runs apart. The last line says how many were answered and how many failed.
local target, run, number, fixed = "/", "0", 0

function init(arguments)
  target, run = arguments[1], arguments[2] or "0"
  fixed = not target:find("#", 1, true) and wrk.format("GET", target)
end

function request()
  if fixed then return fixed end
  number = number + 1
  return wrk.format("GET", (target:gsub("#", run .. "-" .. number)))
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format('{"requests": %d, "duration_s": %.6f, "errors": %d}\n', summary.requests,
    summary.duration / 1e6, errors.connect + errors.read + errors.write + errors.timeout + errors.status))
end
