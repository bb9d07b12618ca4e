<?php
// SPDX-License-Identifier: MIT
// Arrays, strings, XML, multi-byte text, regular expressions and cycles for the
// collector; prints a digest of each.

function number(): int
{
    static $seed = 12345;

    $seed = ($seed * 1103515245 + 12345) & 0x7fffffff;
    return $seed >> 8;
}

$map = [];
for ($i = 0; $i < 120000; $i++) {
    $key = 'k' . number() % 40000;
    $map[$key] = ($map[$key] ?? '') . number();
}
ksort($map);
echo 'map ', md5(serialize($map)), "\n";
$copy = unserialize(serialize($map));
echo 'json ', md5(json_encode($copy)), ' ', $copy === $map ? 'equal' : 'not equal', "\n";

$document = new DOMDocument('1.0', 'UTF-8');
$root = $document->appendChild($document->createElement('items'));
for ($i = 0; $i < 5000; $i++) {
    $item = $document->createElement('item', str_repeat('é', $i % 50));
    $item->setAttribute('id', (string) $i);
    $root->appendChild($item);
    if ($i % 5 == 4) {
        $root->removeChild($root->firstChild);
    }
}
$xml = $document->saveXML();
$read = new DOMDocument();
$read->loadXML($xml);
$found = (new DOMXPath($read))->query('//item[number(@id) mod 7 = 0]');
echo 'xml ', md5($xml), ' ', $found->length, ' ', count(simplexml_load_string($xml)), "\n";

$parser = xml_parser_create();
$starts = 0;
xml_set_element_handler(
    $parser,
    function () use (&$starts) { $starts++; },
    function () {}
);
xml_parse($parser, $xml, true);
echo "parser $starts\n";

$text = implode(' ', array_map(fn ($v) => mb_strtoupper("größe$v"), array_slice($map, 0, 20000)));
echo 'mb ', mb_strlen($text), ' ', md5(mb_convert_encoding($text, 'UTF-16', 'UTF-8')), "\n";
echo 'regex ', md5(preg_replace('/(\d{2})(\d)/u', '$2-$1', $text)), "\n";

for ($i = 0; $i < 60000; $i++) {
    $a = new stdClass();
    $b = new stdClass();
    $a->other = $b;
    $b->other = $a;
    $b->data = range(0, $i % 20);
}
unset($a, $b);
echo 'collected ', gc_collect_cycles() >= 0 ? 'yes' : 'no', "\n";

try {
    // No server is there: what counts is that the extension cleans up after itself.
    new PDO('mysql:host=127.0.0.1;port=1', 'none', 'none', [PDO::ATTR_TIMEOUT => 1]);
    echo "mysql answered\n";
} catch (PDOException $error) {
    echo "mysql refused\n";
}
