package h1

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
)

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

// announceTrailer names the trailer fields to come.
func announceTrailer(w *bufio.Writer, trailer http.Header) {
	if names := trailerNames(trailer); len(names) > 0 {
		put(w, "Trailer: ", strings.Join(names, ", "), "\r\n")
	}
}

// writeTrailer writes the last chunk and the trailer fields.
func writeTrailer(w *bufio.Writer, trailer http.Header) error {
	put(w, "0\r\n")
	for _, name := range trailerNames(trailer) {
		if err := (http.Header{name: trailer[name]}).Write(w); err != nil {
			return err
		}
	}
	_, err := w.WriteString("\r\n")
	return err
}

func trailerNames(trailer http.Header) []string {
	var names []string
	for name := range trailer {
		if !slices.Contains(hopByHop, name) && !slices.Contains(notInTrailers, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
