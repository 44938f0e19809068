-- Removes entries that are older than what is known to be stored. KEYS: one per entry. ARGV: 16 bytes of version each.
local removed = 0
for i = 1, #KEYS do
  local entry = redis.call('GETRANGE', KEYS[i], 8, 23)
  for j = 1, #entry do
    local known, old = string.byte(ARGV[i], j), string.byte(entry, j)
    if known ~= old then
      if known > old then removed = removed + redis.call('DEL', KEYS[i]) end
      break
    end
  end
end
return removed
