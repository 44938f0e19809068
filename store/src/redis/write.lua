-- Writes entries, of two of a user the newer. KEYS: the generation, then one key per entry. ARGV: a generation to begin
-- with if there is none, then for each entry its life in milliseconds and its value, which begins with 16 bytes of
-- version. An entry is stored behind the 8 bytes of the generation. Answers how many were written.
local generation = redis.call('GET', KEYS[1])
if not generation then
  generation = ARGV[1]
  redis.call('SET', KEYS[1], generation)
end
-- Not by `>`: that follows the server's locale.
local function is_newer(value, entry)
  for i = 1, 16 do
    local new, old = string.byte(value, i), string.byte(entry, i + 8)
    if new ~= old then return new > old end
  end
  return false
end
local written = 0
for i = 2, #KEYS do
  local life, value = ARGV[2 * i - 2], ARGV[2 * i - 1]
  local entry = redis.call('GETRANGE', KEYS[i], 0, 23)
  if #entry < 24 or string.sub(entry, 1, 8) ~= generation or is_newer(value, entry) then
    redis.call('SET', KEYS[i], generation .. value, 'PX', life)
    written = written + 1
  end
end
return written
