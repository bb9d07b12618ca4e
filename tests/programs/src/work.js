// SPDX-License-Identifier: MIT
// Workers that come and go, buffers moved between them, JSON, zlib and crypto in the
// thread pool; prints a digest of each.
'use strict';

const crypto = require('crypto');
const zlib = require('zlib');
const { promisify } = require('util');
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');

const digest = (data) => crypto.createHash('sha256').update(data).digest('hex').slice(0, 16);

function blocks(seed, count) {
	const list = [];
	for (let i = 0; i < count; i++) {
		list.push(Buffer.alloc(1 + ((i * 7919 + seed) % 40000), `${seed}-${i}`));
	}
	return list;
}

function json(seed) {
	const rows = [];
	for (let i = 0; i < 20000; i++) {
		rows.push({ id: i, name: `row ${i * seed}`, tags: [`${i % 7}`, `${i % 11}`], deep: { value: i / 4 } });
	}
	const text = JSON.stringify(rows);
	const back = JSON.parse(text);
	return digest(text) + digest(JSON.stringify(back.reverse()));
}

async function work(seed) {
	const hash = crypto.createHash('sha256');
	const gzip = promisify(zlib.gzip);
	const gunzip = promisify(zlib.gunzip);
	const list = blocks(seed, 600);
	const packed = await Promise.all(list.map((block) => gzip(block)));
	const unpacked = await Promise.all(packed.map((block) => gunzip(block)));
	unpacked.forEach((block, i) => {
		if (!block.equals(list[i])) {
			throw new Error(`block ${i} has changed`);
		}
		hash.update(block);
	});
	hash.update(json(seed));
	return hash.digest('hex').slice(0, 16);
}

async function main() {
	for (let round = 0; round < 2; round++) {
		const answers = await Promise.all([1, 2, 3, 4].map((seed) => new Promise((resolve, reject) => {
			const worker = new Worker(__filename, { workerData: seed });
			let answer;
			worker.on('message', (message) => {
				answer = message.digest + digest(Buffer.from(message.bytes));
			});
			worker.on('error', reject);
			worker.on('exit', (code) => (code === 0 ? resolve(answer) : reject(new Error(`exit ${code}`))));
		})));
		console.log(`workers ${answers.join(' ')}`);
	}
	const list = blocks(9, 4000);
	const joined = Buffer.concat(list);
	list.length = 0;
	global.gc();
	console.log(`buffers ${joined.length} ${digest(joined)}`);
	console.log(`json ${json(5)}`);
	const pbkdf2 = promisify(crypto.pbkdf2);
	const keys = await Promise.all([1, 2, 3, 4].map((n) => pbkdf2('word', `salt ${n}`, 2000, 32, 'sha512')));
	console.log(`crypto ${digest(Buffer.concat(keys))}`);
	console.log('done');
}

if (isMainThread) {
	main().catch((error) => {
		console.error(error);
		process.exit(1);
	});
} else {
	work(workerData).then((answer) => {
		const bytes = new Uint8Array(300000).fill(workerData).buffer;
		parentPort.postMessage({ digest: answer, bytes }, [bytes]);
	});
}
