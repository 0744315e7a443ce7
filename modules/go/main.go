// Prints its arguments and leaves with code 3.
package main

import (
	"fmt"
	"os"
	"strings"
)

func main() {
	fmt.Println("hello from", strings.Join(os.Args, " "))
	os.Exit(3)
}
