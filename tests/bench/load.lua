-- What wrk sends (from the environment) and how it reports: one line of JSON. `done` runs once, after the load;
-- `errors.status` counts answers with a status over 399. With BENCH_PATHS (one a line) each request goes to the next of
-- them; the requests are made before the load, and only then does anything here run per request.
local file = io.open(os.getenv("BENCH_BODY_FILE"), "rb")
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()
wrk.headers["Content-Type"] = os.getenv("BENCH_CONTENT_TYPE")
wrk.headers["Authorization"] = os.getenv("BENCH_AUTHORIZATION")
local paths = os.getenv("BENCH_PATHS")
if paths then
  local requests, at = {}, 0
  function init(args)
    for path in paths:gmatch("[^\n]+") do requests[#requests + 1] = wrk.format(nil, path) end
  end
  function request()
    at = at % #requests + 1
    return requests[at]
  end
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"p999_us":%d,"max_us":%d,' ..
    '"errors_connect":%d,"errors_read":%d,"errors_write":%d,"errors_timeout":%d,"errors_status":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    latency.max, e.connect, e.read, e.write, e.timeout, e.status))
end
