/* Who runs this program, for what is recorded beside an operator's decision. */
#ifndef CTL_WHO_H
#define CTL_WHO_H

enum { WHO_MAX = 128 };

/** "anna@shop1" into dst, which has WHO_MAX bytes. */
void who_am_i(char *dst);

#endif
