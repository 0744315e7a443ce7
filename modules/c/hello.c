/* Prints its arguments and leaves with code 5. */
#include <stdio.h>

int main(int count, char **args) {
    printf("hello from");
    for (int i = 0; i < count; i++) printf(" %s", args[i]);
    putchar('\n');
    return 5;
}
