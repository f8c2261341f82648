;; What the hostile guests share. A guest takes from here what its text names, and what that names in turn; what it defines itself
;; is left out here. Below `main` stands what every guest has.
;;
;; Memory: strings at 32 to 63, the answer of `process` at 64, the time of a tick at 96, an answer of the host at 128 to 255. What is from 1024 on belongs to the
;; attack. From 1 MiB on the host gets memory (`cabi_realloc`), which is free again after the call.

;; State.
(import "wasm-host:task/state@0.1.1" "[static]store.open" (func $store.open (param i32 i32 i32)))
(import "wasm-host:task/state@0.1.1" "[method]store.get" (func $store.get (param i32 i32 i32 i32)))
(import "wasm-host:task/state@0.1.1" "[method]store.put" (func $store.put (param i32 i32 i32 i32 i32 i32 i32 i64)))
(import "wasm-host:task/state@0.1.1" "[method]store.delete" (func $store.delete (param i32 i32 i32)))
(import "wasm-host:task/state@0.1.1" "[method]store.increment" (func $store.increment (param i32 i32 i32 i64) (result i64)))
(import "wasm-host:task/state@0.1.1" "[method]store.get-many" (func $store.get-many (param i32 i32 i32 i32 i32 i32 i32 i32)))
(import "wasm-host:task/state@0.1.1" "[method]store.put-many" (func $store.put-many (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64)))
(import "wasm-host:task/state@0.1.1" "[method]store.delete-range" (func $store.delete-range (param i32 i32 i32 i32 i32 i32 i32)))
(import "wasm-host:task/state@0.1.1" "[method]store.scan" (func $store.scan (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(import "wasm-host:task/state@0.1.1" "[method]cursor.next" (func $cursor.next (param i32 i32 i32 i32)))
(import "wasm-host:task/state@0.1.1" "[resource-drop]store" (func $store.drop (param i32)))
(import "wasm-host:task/state@0.1.1" "[resource-drop]cursor" (func $cursor.drop (param i32)))

;; Output, context, figures, configuration, log.
(import "wasm-host:task/output@0.1.1" "send" (func $send (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i32)))
(import "wasm-host:task/output@0.1.1" "send-many" (func $send-many (param i32)))
(import "wasm-host:task/context@0.1.1" "partition" (func $partition (result i32)))
(import "wasm-host:task/context@0.1.1" "request-checkpoint" (func $request-checkpoint))
(import "wasm-host:task/context@0.1.1" "request-stop" (func $request-stop (param i32 i32)))
(import "wasm-host:task/metrics@0.1.1" "counter-add" (func $counter-add (param i32 i32 i64)))
(import "wasm-host:task/metrics@0.1.1" "gauge-set" (func $gauge-set (param i32 i32 f64)))
(import "wasm-host:task/metrics@0.1.1" "histogram-record" (func $histogram-record (param i32 i32 f64)))
(import "wasi:config/store@0.2.0-rc.1" "get" (func $config.get (param i32 i32 i32)))
(import "wasi:logging/logging@0.1.0-draft" "log" (func $log (param i32 i32 i32 i32 i32)))

;; WASI.
(import "wasi:cli/exit@0.2.0" "exit" (func $exit (param i32)))
(import "wasi:cli/environment@0.2.0" "get-environment" (func $environment (param i32)))
(import "wasi:cli/environment@0.2.0" "get-arguments" (func $arguments (param i32)))
(import "wasi:cli/stdin@0.2.0" "get-stdin" (func $stdin (result i32)))
(import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
(import "wasi:cli/stderr@0.2.0" "get-stderr" (func $stderr (result i32)))
(import "wasi:io/streams@0.2.0" "[method]input-stream.read" (func $input.read (param i32 i64 i32)))
(import "wasi:io/streams@0.2.0" "[method]input-stream.blocking-skip" (func $input.blocking-skip (param i32 i64 i32)))
(import "wasi:io/streams@0.2.0" "[method]output-stream.write" (func $stream.write (param i32 i32 i32 i32)))
(import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush" (func $stream.blocking-write-and-flush (param i32 i32 i32 i32)))
(import "wasi:io/streams@0.2.0" "[method]output-stream.write-zeroes" (func $stream.write-zeroes (param i32 i64 i32)))
(import "wasi:io/poll@0.2.0" "poll" (func $poll (param i32 i32 i32)))
(import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $pollable.block (param i32)))
(import "wasi:clocks/monotonic-clock@0.2.0" "now" (func $now (result i64)))
(import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $subscribe-duration (param i64) (result i32)))
(import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-instant" (func $subscribe-instant (param i64) (result i32)))
(import "wasi:random/random@0.2.0" "get-random-bytes" (func $random-bytes (param i64 i32)))
(import "wasi:filesystem/preopens@0.2.0" "get-directories" (func $directories (param i32)))
(import "wasi:sockets/instance-network@0.2.0" "instance-network" (func $network (result i32)))
(import "wasi:sockets/ip-name-lookup@0.2.0" "resolve-addresses" (func $resolve-addresses (param i32 i32 i32 i32)))
(import "wasi:sockets/tcp-create-socket@0.2.0" "create-tcp-socket" (func $create-tcp-socket (param i32 i32)))
(import "wasi:sockets/udp-create-socket@0.2.0" "create-udp-socket" (func $create-udp-socket (param i32 i32)))

;; Key-value, as WASI drafts it.
(import "wasi:keyvalue/store@0.2.0-draft2" "open" (func $bucket.open (param i32 i32 i32)))
(import "wasi:keyvalue/batch@0.2.0-draft2" "get-many" (func $bucket.get-many (param i32 i32 i32 i32)))
(import "wasi:keyvalue/atomics@0.2.0-draft2" "[static]cas.new" (func $cas.new (param i32 i32 i32 i32)))

;; Opens the store `mine`.
(func $mine (result i32)
  (call $store.open (i32.const 48) (i32.const 4) (i32.const 128))
  (if (i32.load8_u (i32.const 128)) (then unreachable))
  (i32.load (i32.const 132)))

;; Sets a key of 4 bytes to the bytes at `value`.
(func $put4 (param $store i32) (param $key i32) (param $value i32) (param $length i32)
  (i32.store (i32.const 40) (local.get $key))
  (call $store.put (local.get $store) (i32.const 40) (i32.const 4) (local.get $value) (local.get $length)
    (i32.const 0) (i32.const 0) (i64.const 0)))

;; Scans all of a store, upwards, with values.
(func $scan-all (param $store i32) (result i32)
  (call $store.scan (local.get $store) (i32.const 0) (i32.const 0) (i32.const 0)
    (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))

;; Sends a message without key to `out`, with these headers.
(func $send-out (param $value i32) (param $length i32) (param $headers i32) (param $count i32)
  (call $send (i32.const 32) (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0)
    (i32.const 1) (local.get $value) (local.get $length) (local.get $headers) (local.get $count)
    (i32.const 0) (i64.const 0) (i32.const 1) (i32.const 0)))

;; Lets memory have so many bytes at least; traps if it cannot.
(func $have (param $bytes i32)
  (local $more i32)
  (local.set $more (i32.sub (i32.shr_u (i32.add (local.get $bytes) (i32.const 65535)) (i32.const 16)) (memory.size)))
  (if (i32.gt_s (local.get $more) (i32.const 0))
    (then (if (i32.eq (memory.grow (local.get $more)) (i32.const -1)) (then unreachable)))))

;; Memory for what the host gives: one after the other.
(func $bump (param $old i32) (param $old-length i32) (param $align i32) (param $length i32) (result i32)
  (local $at i32)
  (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 15)) (i32.const -16)))
  (global.set $heap (i32.add (local.get $at) (local.get $length)))
  (call $have (global.get $heap))
  (local.get $at))

(func $realloc (export "cabi_realloc") (param $old i32) (param $old-length i32) (param $align i32) (param $length i32) (result i32)
  (call $bump (local.get $old) (local.get $old-length) (local.get $align) (local.get $length)))

(func $after (export "cabi_post_wasm-host:task/message-handler@0.1.1#process") (param i32)
  (global.set $heap (i32.const 0x100000)))

;; At every message of the other input.
(func $tick)

(memory $memory (export "memory") 32)
(global $heap (mut i32) (i32.const 0x100000))
;; Where the answer of `process` is.
(global $answer (mut i32) (i32.const 64))
(data $strings (i32.const 32) "out\00\00\00\00\00\00\00\00\00\00\00\00\00mine")

;; Writes the time, in nanoseconds, as 16 characters from `@` (0) to `O` (15).
(func $stamp
  (local $left i64) (local $at i32)
  (local.set $left (call $now))
  (local.set $at (i32.const 112))
  (loop $next
    (local.set $at (i32.sub (local.get $at) (i32.const 1)))
    (i32.store8 (local.get $at) (i32.add (i32.const 64) (i32.and (i32.wrap_i64 (local.get $left)) (i32.const 15))))
    (local.set $left (i64.shr_u (local.get $left) (i64.const 4)))
    (br_if $next (i32.gt_u (local.get $at) (i32.const 96)))))

;; A message of input 0 is an attack. Any other goes on to `out`, to its own partition, with its offset for a time, and says when that was.
(func $main (export "wasm-host:task/message-handler@0.1.1#process")
  (param $input i32) (param $number i32) (param $offset i64) (param $time i64)
  (param $has-key i32) (param $key i32) (param $key-length i32)
  (param $has-value i32) (param $value i32) (param $value-length i32)
  (param $headers i32) (param $count i32)
  (result i32)
  (i64.store (i32.const 64) (i64.const 0))
  (i32.store (i32.const 72) (i32.const 0))
  (if (i32.eqz (local.get $input))
    (then (call $attack) (return (global.get $answer))))
  (call $tick)
  (call $stamp)
  (call $send (i32.const 32) (i32.const 3)
    (local.get $has-key) (local.get $key) (local.get $key-length)
    (i32.const 1) (i32.const 96) (i32.const 16)
    (i32.const 0) (i32.const 0)
    (i32.const 1) (local.get $offset) (i32.const 1) (local.get $number))
  (i32.const 64))

;; The same for a handler of batches. What it was given is sent as it is, with offsets for times.
(func $after-batch (export "cabi_post_wasm-host:task/batch-handler@0.1.1#process") (param i32)
  (global.set $heap (i32.const 0x100000)))

(func $main-batch (export "wasm-host:task/batch-handler@0.1.1#process") (param $batch i32) (result i32)
  (i64.store (i32.const 64) (i64.const 0))
  (i32.store (i32.const 72) (i32.const 0))
  (if (i32.eqz (i32.load (local.get $batch)))
    (then (call $attack) (return (global.get $answer))))
  ;; The port, the messages, the partitions: none.
  (memory.fill (i32.const 512) (i32.const 0) (i32.const 140))
  (i64.store (i32.const 512) (i64.const 0x0000_0003_0000_0020))
  (memory.copy (i32.const 520) (i32.add (local.get $batch) (i32.const 16)) (i32.const 120))
  (i64.store (i32.const 572) (i64.load offset=8 (local.get $batch)))
  (call $send-many (i32.const 512))
  (i32.const 64))
