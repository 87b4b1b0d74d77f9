-- Returns one page of the log: id, hash and payload of each entry, at least one if there is any.
-- KEYS: log   ARGV: seq to start after, bytes to stop at
local page, taken, from = {}, 0, '(' .. ARGV[1] .. '-18446744073709551615'
while taken < tonumber(ARGV[2]) or #page == 0 do
  local entry = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', 1)[1]
  if not entry then break end
  local id, hash, payload = entry[1], entry[2][2], entry[2][4]
  if #page > 0 and taken + #payload > tonumber(ARGV[2]) then break end
  page[#page + 1], page[#page + 2], page[#page + 3] = id, hash, payload
  taken = taken + #payload + 1
  from = '(' .. id
end
return page
