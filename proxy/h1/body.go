package h1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http/httputil"
	"sync"
)

// body is what follows a head. The zero value is empty.
type body struct {
	in      *inbox
	left    int64     // bytes of it to come; -1 where only its own end says
	chunks  io.Reader // set where it is chunked
	trailer fields    // of a chunked body that has ended
	err     error     // set when it has ended
}

// open begins the body of length bytes, -1 for until the end of the stream, that
// comes from in.
func (b *body) open(in *inbox, length int64, chunked bool) {
	*b = body{in: in, left: length, trailer: fields{list: b.trailer.list[:0]}}
	switch {
	case chunked:
		b.left = -1
		b.chunks = httputil.NewChunkedReader(in.br)
	case length == 0:
		b.err = io.EOF
	}
}

// Read implements io.Reader. A body that ends before its time ends with
// io.ErrUnexpectedEOF.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.in == nil {
		return 0, io.EOF
	}
	var n int
	switch {
	case b.chunks != nil:
		if n, b.err = b.chunks.Read(p); errors.Is(b.err, io.EOF) {
			b.err = b.readTrailer()
		}
	case b.left < 0:
		n, b.err = b.in.br.Read(p)
	default:
		n, b.err = b.in.br.Read(p[:min(int64(len(p)), b.left)])
		if b.left -= int64(n); b.left == 0 {
			b.err = io.EOF
		} else if errors.Is(b.err, io.EOF) {
			b.err = io.ErrUnexpectedEOF
		}
	}
	return n, b.err
}

// readTrailer reads what follows the last chunk (RFC 9112 section 7.1.2). The
// error is io.EOF where all is well.
func (b *body) readTrailer() error {
	end, err := b.in.br.Peek(2)
	if err == nil && string(end) == "\r\n" {
		_, err = b.in.br.Discard(2)
	} else if err == nil {
		var raw []byte
		if raw, err = b.in.head(headLimit); err == nil {
			if no := b.trailer.scan(bytes.Clone(raw)); no != nil {
				return no
			}
			_, err = b.in.br.Discard(len(raw))
		}
	}
	switch {
	case err == nil:
		return io.EOF
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}

const (
	// pieceSize is how much of a body is read at once, in bytes.
	pieceSize = 32 << 10
	// chunkHead is room for a chunk's size line before a piece.
	chunkHead = len("8000\r\n")
	chunkEnd  = len("\r\n")
)

// piece is room for a part of a body with its chunk framing around it.
type piece [chunkHead + pieceSize + chunkEnd]byte

var pieces = sync.Pool{New: func() any { return new(piece) }}

// copyBody copies src to its end, bare or as chunks without the last one.
func copyBody(dst *bufio.Writer, src io.Reader, chunked, flush bool) (readErr, writeErr error) {
	p := pieces.Get().(*piece)
	defer pieces.Put(p)
	for {
		n, err := src.Read(p[chunkHead : chunkHead+pieceSize])
		if n > 0 {
			out := p[chunkHead : chunkHead+n]
			if chunked {
				out = p.frame(n)
			}
			if _, writeErr = dst.Write(out); writeErr == nil && flush {
				writeErr = dst.Flush()
			}
			if writeErr != nil {
				return nil, writeErr
			}
		}
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		if err != nil {
			return err, nil
		}
	}
}

// frame makes a chunk of the piece's first n bytes (RFC 9112 section 7.1).
func (p *piece) frame(n int) []byte {
	start := chunkHead - len("\r\n")
	copy(p[start:], "\r\n")
	for size := n; size > 0; size >>= 4 {
		start--
		p[start] = "0123456789abcdef"[size&0xf]
	}
	end := chunkHead + n
	end += copy(p[end:], "\r\n")
	return p[start:end]
}
