// SPDX-License-Identifier: MIT
// Threads, off-heap buffers, zlib and many classes at run time (the compiler's and the
// machine's own memory comes from malloc); prints a digest of each.

import java.nio.ByteBuffer;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.zip.Deflater;
import java.util.zip.Inflater;

public final class Work {
	private static String digest(byte[] data) throws Exception {
		StringBuilder text = new StringBuilder();
		for (byte b : MessageDigest.getInstance("SHA-256").digest(data)) {
			text.append(String.format("%02x", b));
		}
		return text.substring(0, 16);
	}

	private static byte[] direct(int seed) {
		List<ByteBuffer> buffers = new ArrayList<>();
		int sum = seed;
		for (int i = 0; i < 300; i++) {
			ByteBuffer buffer = ByteBuffer.allocateDirect(1 + (i * 7919 + seed) % 60000);
			while (buffer.hasRemaining()) {
				buffer.put((byte) (sum = sum * 31 + 7));
			}
			buffer.flip();
			buffers.add(buffer);
			if (i % 3 == 0) {
				buffers.remove(i % buffers.size());
			}
		}
		byte[] all = new byte[buffers.stream().mapToInt(ByteBuffer::limit).sum()];
		int at = 0;
		for (ByteBuffer buffer : buffers) {
			int size = buffer.limit();
			buffer.get(all, at, size);
			at += size;
		}
		return all;
	}

	private static String thread(int seed) throws Exception {
		byte[] data = direct(seed);
		byte[] packed = new byte[data.length + 1024];
		byte[] unpacked = new byte[data.length];
		for (int i = 0; i < 3; i++) {
			Deflater deflater = new Deflater(1 + i * 3);
			deflater.setInput(data, 0, 400000);
			deflater.finish();
			int size = deflater.deflate(packed);
			deflater.end();
			Inflater inflater = new Inflater();
			inflater.setInput(packed, 0, size);
			if (inflater.inflate(unpacked) != 400000) {
				throw new AssertionError("inflated to another size");
			}
			inflater.end();
		}
		Map<String, List<Integer>> map = new HashMap<>();
		for (int i = 0; i < 100000; i++) {
			map.computeIfAbsent("key " + (i * seed) % 5003, key -> new ArrayList<>()).add(i);
		}
		long sum = map.values().stream().mapToLong(list -> list.size() * (long) list.get(0)).sum();
		return digest(data) + digest(unpacked) + sum;
	}

	public static void main(String[] arguments) throws Exception {
		ExecutorService pool = Executors.newFixedThreadPool(4);
		List<Future<String>> answers = new ArrayList<>();
		for (int i = 1; i <= 8; i++) {
			int seed = i;
			answers.add(pool.submit(() -> thread(seed)));
		}
		for (Future<String> answer : answers) {
			System.out.println(answer.get());
		}
		pool.shutdown();
		if (!pool.awaitTermination(30, TimeUnit.SECONDS)) {
			throw new AssertionError("threads go on");
		}
		for (int i = 0; i < 400; i++) {
			Thread thread = new Thread(() -> new ArrayList<>(List.of(1, 2, 3)));
			thread.start();
			thread.join();
		}
		System.gc();
		System.out.println("done");
	}
}
