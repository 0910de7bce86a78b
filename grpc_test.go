package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/status"
)

// grpcMain is the program "grpc" of the scenarios: it calls each METHOD at
// ADDRESS, host:port, with an empty message, and prints the method and the name
// of the status. A stream's first answer is enough; one that waits is OK.
//
//	grpc ADDRESS METHOD...
func grpcMain(args []string) int {
	if len(args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: grpc ADDRESS METHOD...")
		return 2
	}
	conn, err := grpc.NewClient(args[0], grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		fmt.Fprintln(os.Stderr, "grpc:", err)
		return 1
	}
	defer conn.Close()
	for _, method := range args[1:] {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		var answer []byte
		err := conn.Invoke(ctx, method, []byte{}, &answer, grpc.ForceCodec(rawCodec{}))
		cancel()
		fmt.Printf("%s %s %s\n", method, status.Code(err), status.Convert(err).Message())
	}
	return 0
}

// rawCodec leaves messages as they are.
type rawCodec struct{}

var _ encoding.Codec = rawCodec{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) ([]byte, error) { return v.([]byte), nil }

func (rawCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = data
	return nil
}
