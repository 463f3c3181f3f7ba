-- For wrk: sends the requests in the files named after `--`, byte for byte, one after another and over again,
-- and prints what happened as one line of JSON.

local requests = {}
local turn = 0

function init(arguments)
  for index, name in ipairs(arguments) do
    local file = assert(io.open(name, "rb"))
    requests[index] = file:read("*a")
    file:close()
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    '{"requests": %d, "seconds": %.6f, "refused": %d, "failed": %d, "p50": %.6f, "p99": %.6f}',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6
  ))
end
