-- One node settles what it spent of a quota and asks for more. Called by gateway/host/leases.py; atomic, one key.
--
-- KEYS[1]  hash of one quota in one period
-- ARGV     1 node, 2 now (s), 3 time to live of a lease (s), 4 time to live of the key (s),
--          5–7 spent since the last call, 8–10 wanted (below zero: given back),
--          11–13 bounds of the period (-1: none), 14 spending cap (-1: none),
--          15–17 included in the tier, 18–20 price in micros per million of each unit
--          (invocations, CPU µs, MiB·µs, in this order, each time)
-- Returns  granted 1–3, spent by the cluster 4–6, reason ("", "invocations", "cpu", "memory", "spend"), spent in micros
--
-- Fields: s1–s3 spent by the cluster; f1–f3 what SQL knows was spent (a floor, after Redis lost its memory);
-- o:NODE:1–3 out on lease; t:NODE when the node was last heard. A lease that is not renewed in time is void: its node
-- stops spending it before (leases.py), so that it can be leased again.
-- Numbers are doubles: exact below 2^53.
local key, node, now = KEYS[1], ARGV[1], tonumber(ARGV[2])
local lease_ttl = tonumber(ARGV[3])
local names = {"invocations", "cpu", "memory"}
local function argument(first, i) return tonumber(ARGV[first + i - 1]) end

local hash = {}
local flat = redis.call("HGETALL", key)
for i = 1, #flat, 2 do hash[flat[i]] = flat[i + 1] end
local function number(field) return tonumber(hash[field] or "0") end

local out, others = {0, 0, 0}, 0
for field, value in pairs(hash) do
  if string.sub(field, 1, 2) == "t:" then
    local other = string.sub(field, 3)
    if other ~= node then
      if now - tonumber(value) > lease_ttl then
        redis.call("HDEL", key, field, "o:" .. other .. ":1", "o:" .. other .. ":2", "o:" .. other .. ":3")
      else
        others = others + 1
        for i = 1, 3 do out[i] = out[i] + number("o:" .. other .. ":" .. i) end
      end
    end
  end
end

-- What this node spent leaves its lease, what it wants back or more of joins it.
local spent, own = {}, {}
for i = 1, 3 do
  local delta = argument(5, i)
  spent[i] = math.max(number("s" .. i), number("f" .. i)) + delta
  own[i] = math.max(0, number("o:" .. node .. ":" .. i) - delta)
end

local function cost(grant)
  local micros = 0
  for i = 1, 3 do
    local over = spent[i] + out[i] + own[i] + grant[i] - argument(15, i)
    if over > 0 then micros = micros + over * argument(18, i) / 1000000 end
  end
  return micros
end

local granted, reason = {0, 0, 0}, ""
for i = 1, 3 do
  local wanted = argument(8, i)
  if wanted < 0 then
    granted[i] = math.max(wanted, -own[i])
  else
    local bound = argument(11, i)
    granted[i] = wanted
    if bound >= 0 then
      local left = math.max(0, bound - spent[i] - out[i] - own[i])
      -- Nobody takes more than its share, so that a node that comes later finds something; crumbs go to the first.
      local share = math.max(math.ceil(left / (others + 2)), math.min(left, 8))
      if i > 1 then share = math.max(share, math.min(left, 1000000)) end
      granted[i] = math.min(wanted, share)
      if left <= 0 and own[i] <= 0 then reason = names[i] end
    end
  end
end
local cap = tonumber(ARGV[14])
if cap >= 0 then
  local tries = 0
  while cost(granted) > cap and tries < 40 do
    for i = 1, 3 do if granted[i] > 0 then granted[i] = math.floor(granted[i] / 2) end end
    tries = tries + 1
  end
  if cost(granted) > cap then
    for i = 1, 3 do granted[i] = math.min(granted[i], 0) end
  end
  for i = 1, 3 do
    if granted[i] <= 0 and own[i] <= 0 and argument(8, i) > 0 and reason == "" then reason = "spend" end
  end
end

for i = 1, 3 do
  own[i] = own[i] + granted[i]
  redis.call("HSET", key, "s" .. i, string.format("%.0f", spent[i]), "o:" .. node .. ":" .. i, string.format("%.0f", own[i]))
end
redis.call("HSET", key, "t:" .. node, ARGV[2])
redis.call("EXPIRE", key, tonumber(ARGV[4]))
return {
  string.format("%.0f", granted[1]), string.format("%.0f", granted[2]), string.format("%.0f", granted[3]),
  string.format("%.0f", spent[1]), string.format("%.0f", spent[2]), string.format("%.0f", spent[3]), reason,
  string.format("%.0f", cost({-out[1] - own[1], -out[2] - own[2], -out[3] - own[3]})),
}
