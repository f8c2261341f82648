// Package runtime holds what the bindings need of the canonical ABI: handles of resources, and memory for what crosses the
// boundary. The bindings import it by this path.
//
// In the component model a guest may not call anything while the host asks it for memory. But Go's allocator asks for the time
// when it runs the garbage collector or scavenges what the heap has too much of. Therefore the collector never runs by itself
// (see collect), and the clock is stopped while the host gets its memory (see realloc).
package runtime

import (
	"runtime"
	"unsafe"
)

// Handle is the handle of a resource; 0 once it has been given away or dropped.
type Handle struct{ value int32 }

// MakeHandle wraps a handle that the host gave.
func MakeHandle(value int32) *Handle { return &Handle{value} }

// Use is the handle, for a call.
func (h *Handle) Use() int32 {
	if h.value == 0 {
		panic("the resource has been dropped")
	}
	return h.value
}

// Take is the handle, which is the caller's from now on.
func (h *Handle) Take() int32 {
	value := h.Use()
	h.value = 0
	return value
}

// TakeOrNil is as Take, but gives 0 where there is no handle any more.
func (h *Handle) TakeOrNil() int32 {
	value := h.value
	h.value = 0
	return value
}

// Set puts a handle in the place of one that was taken.
func (h *Handle) Set(value int32) { h.value = value }

// received keeps what the host wrote from being collected: until the bindings have read it, only they know where it is.
var received []unsafe.Pointer

// release lets go of what the bindings have read: from now on it is kept only as long as the guest refers to it.
func release() {
	clear(received)
	received = received[:0]
}

// Unpin is called by the bindings when the guest is called, before they read the last of the arguments.
func Unpin() {
	collect()
	release()
}

// Allocate gives the bindings memory for arguments and results. They call it when they have read all that was received.
func Allocate(pinner *runtime.Pinner, size, _ uintptr) unsafe.Pointer {
	release()
	if unseen >= unseenMax {
		collect()
	}
	pointer := allocate(size)
	pinner.Pin(pointer)
	return pointer
}

// realloc gives the host memory to write arguments and results into. It always asks for new memory, since it knows how long
// each of them is.
//
//go:wasmexport cabi_realloc
func realloc(_ unsafe.Pointer, oldSize, _, size uintptr) unsafe.Pointer {
	if oldSize != 0 {
		panic("the host asks for other memory in place of what it has")
	}
	pauseClock(true)
	pointer := allocate(size)
	received = append(received, pointer)
	pauseClock(false)
	return pointer
}

// pauseClock has the adapter tell the last time again, instead of asking the host. It is about the monotonic clock only: the
// wall clock is read at the end of a garbage collection.
//
//go:wasmimport wasi_snapshot_preview1 adapter_monotonic_clock_set_paused
func pauseClock(paused bool)

// allocate gives memory that is aligned for everything in the canonical ABI.
func allocate(size uintptr) unsafe.Pointer {
	unseen += size + guestShare
	return unsafe.Pointer(unsafe.SliceData(make([]uint64, (size+7)/8)))
}

// adapterMemory is for the stack and the state of the adapter from WASI preview 1, which asks for them before Go has a heap. It
// must not get them by growing the memory: Go takes all that the memory grows by for its own.
var adapterMemory [2][64 << 10 / 8]uint64

// adapterUsed is how much of it has been given away.
var adapterUsed int

// reallocForAdapter is used by the adapter in place of realloc.
//
//go:wasmexport cabi_realloc_adapter
//go:nosplit
func reallocForAdapter(_ unsafe.Pointer, _, _, size uintptr) unsafe.Pointer {
	if adapterUsed == len(adapterMemory) || size > unsafe.Sizeof(adapterMemory[0]) {
		panic("the adapter needs more memory than it did")
	}
	adapterUsed++
	return unsafe.Pointer(&adapterMemory[adapterUsed-1])
}
