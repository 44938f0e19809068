-- Writes entries, of two of a user the newer. KEYS: the generation, then one key per entry. ARGV: a generation to begin
-- with if there is none, then for each entry its life in milliseconds and its value, which begins with 16 bytes of
-- version. An entry is stored behind the 8 bytes of the generation. Answers how many were written.
--
-- Most of its time is calls of the server, so all entries are read by one; `unpack` does it for a few thousand keys.
local entries = redis.call('MGET', unpack(KEYS))
local generation = entries[1]
if not generation then
  generation = ARGV[1]
  redis.call('SET', KEYS[1], generation)
end
local part, numbers = string.sub, struct.unpack
-- Not by `>` of strings: that follows the server's locale.
local function is_newer(value, entry)
  local a, b, c, d = numbers('>I4I4I4I4', value)
  local e, f, g, h = numbers('>I4I4I4I4', entry, 9)
  if a ~= e then return a > e end
  if b ~= f then return b > f end
  if c ~= g then return c > g end
  return d > h
end
local written = 0
-- What was written just now: a user may come twice.
local new = {}
for i = 2, #KEYS do
  local key, life, value = KEYS[i], ARGV[2 * i - 2], ARGV[2 * i - 1]
  local entry = new[key] or entries[i]
  if not entry or #entry < 24 or part(entry, 1, 8) ~= generation or is_newer(value, entry) then
    new[key] = generation .. value
    redis.call('SET', key, new[key], 'PX', life)
    written = written + 1
  end
end
return written
