# SPDX-License-Identifier: MIT
# The ruby row: strings, arrays, hashes, structs, big integers. job.rb ROUNDS

Node = Struct.new(:key, :left, :right, :tags)

def tree(depth, key = 1)
  return Node.new(key, nil, nil, [key % 7, key.to_s]) if depth == 0
  Node.new(key, tree(depth - 1, 2 * key), tree(depth - 1, 2 * key + 1), [key % 7, key.to_s])
end

def total(node)
  node.key + node.tags[1].size + (node.left ? total(node.left) + total(node.right) : 0)
end

def one(number)
  seed = number
  tally = Hash.new { |hash, key| hash[key] = [] }
  lines = []
  15_000.times do
    seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**64
    word = format("word-%x-%s", seed >> 44, "x" * (seed >> 60))
    tally[word[0, 8]] << word
    lines << "#{word}=#{word.size};#{word.upcase}"
  end
  text = lines.join("\n")
  pairs = text.scan(/^([\w-]+)=(\d+)/).to_h
  big = (1..500).inject(:*)
  order = tally.sort_by { |key, list| [list.size, key] }.first(50)
  [order, text.size, total(tree(10)), big.to_s[-200..], pairs.size].inspect.sum(32)
end

check = 0
ARGV[0].to_i.times { |n| check = (check * 31 + one(n)) % 2**32 }
puts check
