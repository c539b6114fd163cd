-- Says in one line how many requests were answered and how many went wrong.
function done(summary, latency)
  io.write(string.format("answered %d, errors %d\n", summary.requests,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
    + summary.errors.status))
end
