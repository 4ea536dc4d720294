"""Pictures. Each function draws into matplotlib axes that it is given; files are saved aside."""
