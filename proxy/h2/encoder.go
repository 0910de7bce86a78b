package h2

import (
	"bytes"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// encoder is the HPACK state towards one peer (RFC 7541). It remembers what it
// wrote of fields that stand in a table: the requests of a connection differ in few
// fields, and two searches of the tables for each of the others were a tenth of the
// relay's CPU.
type encoder struct {
	hpack *hpack.Encoder
	buf   bytes.Buffer
	known *[knownFields]knownField // nil until the first block
	table uint32                   // counts the changes of the dynamic table
}

const (
	// keptBlock is the longest block, in bytes, whose memory is used again.
	keptBlock = 4 << 10
	// knownFields is how many fields are remembered, each by its place in the list.
	knownFields = 16
	// trailersFrom is the first place of trailers, which have few fields.
	trailersFrom = 12
)

// knownField is what a field was written as: its index in the tables.
type knownField struct {
	name, value string
	table       uint32 // good while the table has not changed
	size        uint8
	index       [4]byte
}

func newEncoder() *encoder {
	e := &encoder{table: 1} // no knownField is of table 0
	e.hpack = hpack.NewEncoder(&e.buf)
	e.hpack.SetMaxDynamicTableSizeLimit(tableSize)
	return e
}

// limit bounds the dynamic table as the peer wants it, in bytes.
func (e *encoder) limit(size uint32) {
	if size = min(size, tableSize); size == e.hpack.MaxDynamicTableSize() {
		return
	}
	// The limit alone makes no table larger again. It is emptied first: of two updates
	// in a block, as a smaller size between wants them (RFC 7541 section 4.2), Go's
	// decoder takes the second with an empty table only.
	e.hpack.SetMaxDynamicTableSize(0)
	e.hpack.SetMaxDynamicTableSizeLimit(size)
	e.hpack.SetMaxDynamicTableSize(size)
	e.table++ // and the next block must say so
}

// block encodes a header list. The bytes are good until the next call.
func (e *encoder) block(fields []hpack.HeaderField) []byte {
	e.buf.Reset()
	if e.known == nil {
		e.known = new([knownFields]knownField)
	}
	from := 0
	if len(fields) > 0 && !strings.HasPrefix(fields[0].Name, ":") {
		from = trailersFrom
	}
	for i, f := range fields {
		k := &e.known[(from+i)%knownFields]
		if k.table == e.table && k.name == f.Name && k.value == f.Value && !f.Sensitive {
			e.buf.Write(k.index[:k.size])
			continue
		}
		f.Sensitive = f.Sensitive || neverIndexed(f.Name)
		before := e.buf.Len()
		_ = e.hpack.WriteField(f) // a bytes.Buffer takes everything
		e.note(k, f, e.buf.Bytes()[before:])
	}
	return e.buf.Bytes()
}

// note looks at how a field was written (RFC 7541 section 6).
func (e *encoder) note(k *knownField, f hpack.HeaderField, wrote []byte) {
	switch {
	case wrote[0]&0x80 != 0 && len(wrote) <= len(k.index): // an index alone
		*k = knownField{name: f.Name, value: f.Value, table: e.table, size: uint8(len(wrote))}
		copy(k.index[:], wrote)
	case wrote[0]&0xc0 == 0x40, wrote[0]&0xe0 == 0x20: // with indexing, or behind an update of the size
		e.table++
	}
}

// giveBack gives the memory of a long block back. The block is not to be read any more.
func (e *encoder) giveBack() {
	if e.buf.Cap() > keptBlock {
		e.buf = bytes.Buffer{}
	}
}

// neverIndexed names the fields that must not enter a table: secrets, and
// values that differ with each request and would only push out the others.
func neverIndexed(name string) bool {
	switch name {
	case "authorization", "token", "grpc-timeout", "content-length":
		return true
	}
	return false
}
