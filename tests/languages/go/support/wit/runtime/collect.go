package runtime

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// growthMin is how much the heap grows at least before it is collected.
	growthMin = 4 << 20
	// unseenMax is how much may have been allocated since the last look at the heap, which costs as much as a short call of the
	// host.
	unseenMax = 1 << 20
	// guestShare is what the guest itself is taken to allocate for each allocation of the bindings.
	guestShare = 64 << 10
)

var (
	// unseen is about how much has been allocated since the last look.
	unseen uintptr
	// heapMax is the size from which on the heap is collected.
	heapMax = uint64(growthMin)
	heap    = []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
)

func init() { debug.SetGCPercent(-1) }

// collect collects garbage if the heap has doubled. It is called where the guest may call the host: when it is called, and when
// it is about to call. A guest that makes more garbage in between than it has memory for calls runtime.GC itself.
func collect() {
	unseen = 0
	if heapSize() < heapMax {
		return
	}
	runtime.GC()
	live := heapSize()
	heapMax = live + max(live, growthMin)
}

func heapSize() uint64 {
	metrics.Read(heap)
	return heap[0].Value.Uint64()
}
