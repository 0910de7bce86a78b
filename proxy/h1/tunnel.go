package h1

import (
	"io"
)

// relayTunnel gives the client a member's 101 and then copies bytes both ways
// until both sides have ended.
func (a *attempt) relayTunnel() error {
	if a.unwatch != nil { // half a tunnel may stay open
		a.unwatch()
		a.unwatch = nil
	}
	x, cl := a.x, a.x.cl
	a.begun, a.tunnel = true, true
	if err := a.m.readWithin(0, 0); err != nil {
		return err
	}
	a.count(a.head.status)
	x.writeAnswer(cl.out, &a.head)
	put(cl.out, "Connection: Upgrade\r\nUpgrade: ", a.head.fields.joined(upgradeField, ""), "\r\n\r\n")
	if _, err := a.in.br.Discard(a.head.size); err != nil {
		return err
	}

	upwards := make(chan struct{})
	go func() {
		defer close(upwards)
		a.tunnelUp()
	}()
	// Read flushes what was written before each wait.
	_, err := io.Copy(onlyWriter{cl.out}, a.in.br)
	if err == nil {
		err = cl.out.Flush()
	}
	if err != nil || closeWrite(cl.c) != nil {
		cl.cut()
	}
	<-upwards
	return nil
}

// tunnelUp copies what the client sends to the member.
func (a *attempt) tunnelUp() {
	_, err := io.Copy(a.m, a.x.cl.in.br)
	if err != nil || closeWrite(a.m.c) != nil {
		a.m.sever(errClientLeft)
	}
}

// onlyWriter hides bufio.Writer's ReadFrom, which would wait for more with bytes
// still unflushed.
type onlyWriter struct{ io.Writer }
