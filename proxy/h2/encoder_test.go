package h2

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// What an encoder remembers must never change what the peer reads: whatever the
// lists are, the tables evict, and the peer wants.
func TestEncoderIsRead(t *testing.T) {
	names := []string{":path", "content-type", "user-agent", "x-a", "x-b", "token", "grpc-timeout", "te", "a-name-of-some-length"}
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		enc := newEncoder()
		var got []hpack.HeaderField
		dec := hpack.NewDecoder(tableSize, func(f hpack.HeaderField) { got = append(got, f) })
		for range 300 {
			if rnd.IntN(40) == 0 {
				size := uint32(rnd.IntN(2 * tableSize))
				enc.limit(size)
				dec.SetAllowedMaxDynamicTableSize(tableSize)
			}
			var list []hpack.HeaderField
			for range rnd.IntN(8) {
				name := names[rnd.IntN(len(names))]
				long := rnd.IntN(3) * rnd.IntN(200)
				list = append(list, hpack.HeaderField{Name: name, Value: fmt.Sprintf("%0*d", long, rnd.IntN(4)), Sensitive: rnd.IntN(20) == 0})
			}
			got = nil
			if _, err := dec.Write(enc.block(list)); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if err := dec.Close(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			same := func(a, b hpack.HeaderField) bool { return a.Name == b.Name && a.Value == b.Value }
			if !slices.EqualFunc(got, list, same) {
				t.Fatalf("seed %d: wrote %v, read %v", seed, list, got)
			}
			for _, f := range got {
				if neverIndexed(f.Name) && !f.Sensitive {
					t.Fatalf("%s may be indexed", f.Name)
				}
			}
		}
	}
}

// The second list of a kind is found without a search, the one with a new table
// size too.
func TestEncoderRemembers(t *testing.T) {
	enc := newEncoder()
	list := fieldsOf(":method", "POST", ":path", "/etcdserverpb.KV/Range", "user-agent", "grpc-go", "token", "secret", "te", "trailers")
	enc.block(list)
	size := len(enc.block(list))
	if allocs := testing.AllocsPerRun(100, func() { enc.block(list) }); allocs > 0 {
		t.Errorf("%v allocations a list", allocs)
	}
	remembered := 0
	for _, k := range enc.known {
		if k.table == enc.table {
			remembered++
		}
	}
	if remembered != 4 { // all but the token
		t.Errorf("%d fields are remembered", remembered)
	}
	enc.limit(0)
	if again := len(enc.block(list)); again <= size {
		t.Errorf("%d bytes without a table, %d with one", again, size)
	}
}

func BenchmarkEncoder(b *testing.B) {
	enc := newEncoder()
	list := fieldsOf(":method", "POST", ":scheme", "http", ":path", "/etcdserverpb.KV/Range", ":authority", "127.0.0.1:2379",
		"content-type", "application/grpc", "user-agent", "grpc-go/1.80.0", "te", "trailers", "grpc-timeout", "4999m", "via", "2 etcdops-0123456789abcdef")
	for b.Loop() {
		enc.block(list)
	}
}
