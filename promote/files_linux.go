package promote

import (
	"os"

	"golang.org/x/sys/unix"
)

// reserve takes n bytes on the disk for a file without making it longer, as far
// as the file system can.
func reserve(file *os.File, n int64) {
	_ = unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, n)
}
