# SPDX-License-Identifier: MIT
# frozen_string_literal: true

# Strings, hashes, threads, forks and the collector at its hardest; prints a
# digest of each.
require 'digest'

def digest(value)
  Digest::SHA256.hexdigest(value.to_s)[0, 16]
end

random = Random.new(42)
words = Array.new(150_000) { random.bytes(1 + random.rand(24)).unpack1('H*') }
index = words.group_by { |word| word[0, 3] }
puts "hash #{digest(index.sort.map { |key, list| "#{key}:#{list.sort.join(',')}" }.join(';'))}"

text = words.first(60_000).join(' ')
puts "regex #{digest(text.gsub(/([0-9])([a-f]+)/) { "#{Regexp.last_match(2)}#{Regexp.last_match(1)}" })}"

queue = Thread::Queue.new
threads = Array.new(6) do |number|
  Thread.new do
    own = Random.new(number)
    20_000.times { |i| queue << "#{number}-#{i}" * (1 + own.rand(6)) if (i % 4).zero? }
    Array.new(20_000) { own.rand(1_000_000) }.sort.each_slice(100).sum(&:first)
  end
end
sums = threads.map(&:value)
puts "threads #{digest(sums.join(','))} #{queue.size}"

answers = Array.new(4) do |number|
  reader, writer = IO.pipe
  pid = fork do
    reader.close
    list = words.select.with_index { |_, i| i % 4 == number }
    GC.start
    writer.write(digest(list.join))
    writer.close
  end
  writer.close
  answer = reader.read
  Process.wait(pid)
  "#{answer}#{$CHILD_STATUS.nil? ? '' : $CHILD_STATUS.exitstatus}"
end
puts "fork #{answers.join(',')}"

GC.stress = true
stressed = Array.new(60) { |i| ("s" * (i * 40)) + [i, i.to_s, { i => i.to_s }].inspect }
GC.stress = false
puts "stress #{digest(stressed.join)}"

words = nil
index = nil
GC.start(full_mark: true, immediate_sweep: true)
GC.compact if GC.respond_to?(:compact)
puts 'done'
