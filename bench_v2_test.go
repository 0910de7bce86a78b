//go:build bench

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
)

var (
	getV2 = &clientKind{prepare: fillV2, connect: func(e *benchEnd, number, _ int) ([]benchClient, error) {
		c, err := connectV2(e, number)
		return []benchClient{(*getter)(c)}, err
	}}
	putV2 = &clientKind{prepare: fillV2, connect: func(e *benchEnd, number, _ int) ([]benchClient, error) {
		c, err := connectV2(e, number)
		return []benchClient{(*setter)(c)}, err
	}}
)

func fillV2(_ context.Context, e *benchEnd) error {
	for n := range 64 {
		c, err := connectV2(e, n)
		if err != nil {
			return err
		}
		err = c.set(0)
		c.close()
		if err != nil {
			return err
		}
	}
	return nil
}

// clientV2 is a connection that stays, with HTTP/1.1 by hand: it knows no context, and
// ends when it is closed.
type clientV2 struct {
	conn      net.Conn
	r         *bufio.Reader
	host, key string
	get       []byte // the request
	want      []byte // in the answer
	body      bytes.Buffer
	put       int
}

func connectV2(e *benchEnd, number int) (*clientV2, error) {
	conn, err := net.Dial("tcp", e.address)
	if err != nil {
		return nil, err
	}
	key := benchKey(number)
	c := &clientV2{conn: conn, r: bufio.NewReader(conn), host: e.address, key: key}
	c.get = fmt.Appendf(nil, "GET /v2/keys/%s HTTP/1.1\r\nHost: %s\r\n\r\n", key, c.host)
	c.wants(0)
	return c, nil
}

func (c *clientV2) wants(number int) {
	c.want = fmt.Appendf(nil, `"key":"/%s","value":"%s"`, c.key, benchValue(c.key, number))
}

func (c *clientV2) close() { _ = c.conn.Close() }

// exchange sends a request and wants the answer to be of the action, with the
// value that was written last.
func (c *clientV2) exchange(request []byte, action string, statuses ...int) error {
	if _, err := c.conn.Write(request); err != nil {
		return fmt.Errorf("%s %s: %w", action, c.key, err)
	}
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return fmt.Errorf("%s %s: %w", action, c.key, err)
	}
	c.body.Reset()
	if _, err := io.Copy(&c.body, res.Body); err != nil {
		return fmt.Errorf("%s %s: read the answer's body: %w", action, c.key, err)
	}
	if !slices.Contains(statuses, res.StatusCode) || !bytes.Contains(c.body.Bytes(), c.want) ||
		!bytes.Contains(c.body.Bytes(), []byte(`"action":"`+action+`"`)) {
		return fmt.Errorf("%s %s: status %s: %s instead of %s", action, c.key, res.Status, c.body.Bytes(), c.want)
	}
	return nil
}

func (c *clientV2) read() error {
	return c.exchange(c.get, "get", http.StatusOK)
}

func (c *clientV2) set(number int) error {
	c.wants(number)
	body := "value=" + url.QueryEscape(benchValue(c.key, number))
	request := fmt.Appendf(nil, "PUT /v2/keys/%s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s",
		c.key, c.host, len(body), body)
	return c.exchange(request, "set", http.StatusOK, http.StatusCreated)
}

// getter reads its key.
type getter clientV2

func (c *getter) do(context.Context) error     { return (*clientV2)(c).read() }
func (c *getter) finish(context.Context) error { return nil }
func (c *getter) close()                       { (*clientV2)(c).close() }

// setter writes its key, which nobody else writes, a new value each time.
type setter clientV2

func (c *setter) do(context.Context) error {
	c.put++
	return (*clientV2)(c).set(c.put)
}

// finish reads what was written last.
func (c *setter) finish(context.Context) error { return (*clientV2)(c).read() }
func (c *setter) close()                       { (*clientV2)(c).close() }
