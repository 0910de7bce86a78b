package socket

import (
	"os"
	"sync"
)

// BufferSize is the size of a borrowed read buffer in bytes: several full
// HTTP/2 frames, so that one system call reads a batch.
const BufferSize = 64 << 10

var errTimeout = os.ErrDeadlineExceeded

var buffers = sync.Pool{New: func() any { b := make([]byte, BufferSize); return &b }}

// Buffer is a window of unread bytes in borrowed memory. The zero value is
// empty and holds none.
type Buffer struct {
	mem  *[]byte
	r, w int
}

// Bytes is what was read and not yet consumed. It is valid until the next read.
func (b *Buffer) Bytes() []byte {
	if b.mem == nil {
		return nil
	}
	return (*b.mem)[b.r:b.w]
}

// Len is the number of unread bytes.
func (b *Buffer) Len() int { return b.w - b.r }

// Consume drops the first n unread bytes.
func (b *Buffer) Consume(n int) {
	b.r += n
	if b.r >= b.w {
		b.r, b.w = 0, 0
	}
}

// Fill appends p, as if it had been read from the connection. It takes no more
// than fits and returns how many bytes it took.
func (b *Buffer) Fill(p []byte) int {
	b.borrow()
	n := copy(b.free(), p)
	b.grow(n)
	return n
}

// Space is the free part of the buffer, to be read into; Grew says how much was.
func (b *Buffer) Space() []byte {
	b.borrow()
	return b.free()
}

// Grew makes the first n bytes of Space part of the unread bytes.
func (b *Buffer) Grew(n int) { b.grow(n) }

// Return gives the memory back if nothing unread is in it.
func (b *Buffer) Return() {
	if b.mem != nil && b.r == b.w {
		buffers.Put(b.mem)
		*b = Buffer{}
	}
}

// Drop gives the memory back whatever is in it.
func (b *Buffer) Drop() {
	b.r = b.w
	b.Return()
}

func (b *Buffer) borrow() {
	if b.mem == nil {
		b.mem = buffers.Get().(*[]byte)
		b.r, b.w = 0, 0
	}
}

// free is the space behind the unread bytes, which move to the front when it
// has become short.
func (b *Buffer) free() []byte {
	if b.r > 0 && len(*b.mem)-b.w < BufferSize/2 {
		b.w = copy(*b.mem, (*b.mem)[b.r:b.w])
		b.r = 0
	}
	return (*b.mem)[b.w:]
}

func (b *Buffer) grow(n int) { b.w += n }
